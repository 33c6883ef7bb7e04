"""Who trains in the peers benchmark, and by which command: trl's script under its launchers, and autofit."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from _peers_figures import Run
from _peers_run import Command, Failed, StepFile

from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.knobs.method import Method
from autofit.planning.micro_batches import accumulation, micro_batches
from autofit.process.python import without_rank_variables
from autofit.process.rendezvous import free_port, remove_shared_memory
from autofit.runs.run_folder import RunFolder

_SCRIPT = Path(__file__).with_name("_peers_script.py")
_BIN = Path(sys.executable).parent
_OUT_OF_MEMORY = ("out of memory", "OutOfMemoryError", "exitcode: -9", "exitcode  : -9", "Cannot allocate memory")
LEARNING_RATES = {Method.FULL: 2e-5, Method.LORA: 2e-4}


@dataclass(frozen=True)
class Training:
    """What every competitor trains."""

    model: Path
    data: Path
    sequence_length: int  # tokens; every row has as many
    global_batch: int
    method: Method
    lora_r: int
    lora_alpha: int
    hardware: Hardware
    limit: str | None  # of a rank's memory, as autofit takes it; peers know none

    @property
    def rank_count(self) -> int:
        return self.hardware.rank_count


@dataclass(frozen=True)
class Setting:
    """What a user of trl's script chooses by himself."""

    micro_batch: int
    accumulation: int
    has_checkpointing: bool

    def __str__(self) -> str:
        checkpointing = ", gradient checkpointing" if self.has_checkpointing else ""
        return f"mb{self.micro_batch} x {self.accumulation}{checkpointing}"


@dataclass
class Peer:
    """trl's script under a launcher, in the first of its settings that fits; what did not fit is not in its times."""

    name: str
    launcher: tuple[str, ...]
    training: Training
    settings: list[Setting] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settings = list(_settings(self.training))

    def run(self, folder: Path, step_count: int) -> Run:
        """Raises Failed when it does not run in any setting, or for another reason than memory."""
        while True:
            try:
                return self._run(folder, step_count, self.settings[0])
            except Failed as failure:
                is_short = any(words in str(failure) for words in _OUT_OF_MEMORY)
                if not is_short or len(self.settings) == 1:
                    raise
                del self.settings[0]

    def _run(self, folder: Path, step_count: int, setting: Setting) -> Run:
        port = free_port()
        words = [part.format(ranks=self.training.rank_count, port=port) for part in self.launcher]
        words += [str(_SCRIPT), *_script_arguments(self.training, setting, step_count, folder / "model")]
        log = folder.with_suffix(".log")
        command = Command(words, folder, _peer_environment(self.training), StepFile(log, _is_loss), log)
        try:
            watched = command.run()
        finally:
            remove_shared_memory(str(port))
        return Run(watched.step_ends_s, watched.total_s, watched.cpu_s, str(setting))


def peers(training: Training) -> tuple[Peer, ...]:
    """Plain data parallel, and the ZeRO configurations that trl ships for `accelerate launch`."""
    torchrun = (str(_BIN / "torchrun"), "--nproc-per-node", "{ranks}", "--master-port", "{port}")
    accelerate = (str(_BIN / "accelerate"), "launch", "--num_processes", "{ranks}", "--main_process_port", "{port}")
    configurations = _trl_folder() / "accelerate_configs"
    return (
        Peer("trl, torchrun", torchrun, training),
        *(
            Peer(name, (*accelerate, "--config_file", str(configurations / file)), training)
            for name, file in (("trl, ZeRO-2", "zero2.yaml"), ("trl, ZeRO-3", "zero3.yaml"))
        ),
    )


def autofit_run(training: Training, folder: Path, cache: Path, step_count: int, stop_after: int | None = None) -> Run:
    """`autofit train` from the command to the model; interrupted where `stop_after` steps are enough to see."""
    run = RunFolder(folder)
    command = Command(
        [sys.executable, "-m", "autofit", "train", *_autofit_arguments(training, folder, step_count)],
        folder.parent,
        os.environ | {"AUTOFIT_CACHE": str(cache)},
        StepFile(run.progress, _is_progress),
        folder.with_suffix(".log"),
        stop_after,
    )
    watched, choice = command.run(), run.read_choice()
    assert choice is not None
    strategy = str(choice.strategy)
    return Run(watched.step_ends_s, watched.total_s, watched.cpu_s, strategy, is_whole=stop_after is None)


def _settings(training: Training) -> Iterator[Setting]:
    """The largest micro-batch first; gradient checkpointing, trl's default, only where nothing fits without it."""
    batch, rank_count = training.global_batch, training.rank_count
    sizes = sorted(micro_batches(batch, rank_count), reverse=True)
    for has_checkpointing in (False, True):
        for size in sizes:
            yield Setting(size, accumulation(batch, rank_count, size), has_checkpointing)


def _trl_folder() -> Path:
    spec = find_spec("trl")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def _script_arguments(training: Training, setting: Setting, step_count: int, out: Path) -> list[str]:
    words: dict[str, object] = {
        "--model": training.model,
        "--data": training.data,
        "--output-dir": out,
        "--seq": training.sequence_length,
        "--steps": step_count,
        "--micro-batch": setting.micro_batch,
        "--accumulation": setting.accumulation,
        "--learning-rate": LEARNING_RATES[training.method],
        "--lora-r": training.lora_r if training.method is Method.LORA else 0,
        "--lora-alpha": training.lora_alpha,
    }
    switches = ["--checkpointing"] if setting.has_checkpointing else []
    return [str(word) for pair in words.items() for word in pair] + switches


def _autofit_arguments(training: Training, folder: Path, step_count: int) -> list[str]:
    words: dict[str, object] = {
        "--model": training.model,
        "--data": training.data,
        "--output-dir": folder,
        "--seq": training.sequence_length,
        "--batch-size": training.global_batch,
        "--ranks": training.rank_count,
        "--method": training.method.value,
        "--max-steps": step_count,
        "--learning-rate": LEARNING_RATES[training.method],
        "--lora-r": training.lora_r,
        "--lora-alpha": training.lora_alpha,
        "--lora-target-modules": "all-linear",
    }
    if training.limit is not None:
        words["--memory-limit"] = training.limit
    return [str(word) for pair in words.items() for word in pair] + ["--", "--save_strategy", "no"]


def _peer_environment(training: Training) -> dict[str, str]:
    """On a CPU as many threads a rank as autofit gives it."""
    environment = without_rank_variables(os.environ)
    environment |= {"PYTHONUNBUFFERED": "1", "PATH": os.pathsep.join([str(_BIN), os.environ.get("PATH", os.defpath)])}
    if training.hardware.kind is DeviceKind.CPU:
        thread_count = max(1, len(os.sched_getaffinity(0)) // training.rank_count)
        environment |= {"OMP_NUM_THREADS": str(thread_count), "CUDA_VISIBLE_DEVICES": ""}
    return environment


def _is_loss(line: str) -> bool:
    """trl prints a step's log so; progress bars may stand before it."""
    return "{'loss':" in line


def _is_progress(line: str) -> bool:
    body = json.loads(line)
    return bool(body.get("step"))

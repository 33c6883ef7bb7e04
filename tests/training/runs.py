"""Small trainings: autofit's own ranks, forked warm and started as DeepSpeed's launcher would, and plain trl's."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autofit.app.probe_specs import training_files
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GRADIENT_CHECKPOINTING, GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import OFFLOAD, Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.quantization import QUANTIZATION, Quantization
from autofit.domain.outcome import Measured
from autofit.domain.request import Lora, Request, Training
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.trial import Choice
from autofit.inputs.model_files import read_model_files
from autofit.planning.export.deepspeed_config import engine_config
from autofit.planning.micro_batches import accumulation
from autofit.probing.protocol import RankReport, RankTrained
from autofit.process.python import worker_environment
from autofit.process.rendezvous import free_port
from autofit.running.rank_watch import read_reports
from autofit.running.training_command import training_arguments
from autofit.runs.run_folder import RunFolder
from tests.builders import make_hardware, make_request, make_rung

GLOBAL_BATCH = 16
LEARNING_RATE = 1e-3
SEQUENCE_TOKENS = 64
LORA = Lora(r=8, alpha=16)


@dataclass(frozen=True)
class Case:
    """One way to run the same training."""

    method: Method = Method.FULL
    stage: int = 2
    checkpointing: GradientCheckpointing = GradientCheckpointing.OFF
    micro_batch: int = 8
    ranks: int = 2
    dtype: Dtype = Dtype.FP32
    optimizer: Optimizer = Optimizer.ADAMW
    offload: Offload = Offload.NONE
    quantization: Quantization = Quantization.NONE

    @property
    def rung(self) -> Rung:
        return make_rung(
            self.stage,
            method=self.method,
            gradient_checkpointing=self.checkpointing,
            dtype=self.dtype,
            optimizer=self.optimizer,
            offload=self.offload,
            quantization=self.quantization,
        )

    def __str__(self) -> str:
        turned = (
            GRADIENT_CHECKPOINTING.of(self.checkpointing),
            OFFLOAD.of(self.offload),
            QUANTIZATION.of(self.quantization),
        )
        others = "".join(f"+{value.syllable}" for value in turned if value.syllable)
        place = f"mb{self.micro_batch} {self.ranks} ranks {self.dtype.value}"
        name = f"zero{self.stage}+{self.method.value}{others} {place}"
        return name if self.optimizer is Optimizer.ADAMW else f"{name} {self.optimizer.value}"


@dataclass(frozen=True)
class Ended:
    """`history` has the trainer's own log entries of the last checkpoint; `reports` are the ranks'."""

    codes: list[int]
    reports: dict[int, RankReport]
    history: list[dict[str, Any]]
    model: Path
    folder: Path
    log: str

    @property
    def steps(self) -> list[dict[str, Any]]:
        return [entry for entry in self.history if "loss" in entry]

    @property
    def trained(self) -> RankTrained:
        """What rank 0 reported."""
        report = self.reports[0]
        assert isinstance(report, RankTrained), report
        return report


class Runs:
    """`with` starts the warm process; every training is told to it and ends before the next."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._plain: dict[object, Ended] = {}

    def __enter__(self) -> Runs:
        command = [sys.executable, "-m", "tests.training.warm"]
        self._errors = (self._folder / "warm.log").open("ab")
        self._warm = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=Path(__file__).parents[2],
            env=worker_environment(DeviceKind.CPU)
            | {"TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_CACHE": str(self._folder / "datasets")},
        )
        while self._answer() != "warm":
            pass
        return self

    def __exit__(self, *_: object) -> None:
        self._warm.kill()
        self._warm.wait()
        self._errors.close()

    def _answer(self) -> str:
        assert self._warm.stdout is not None
        line = self._warm.stdout.readline()
        assert line, (self._folder / "warm.log").read_text()
        return line.strip()

    def _run(self, jobs: list[dict[str, Any]]) -> list[int]:
        assert self._warm.stdin is not None
        self._warm.stdin.write(json.dumps(jobs) + "\n")
        self._warm.stdin.flush()
        try:
            codes: list[int] = json.loads(self._answer())
        except BaseException:  # a test's time is over: the answer that is to come must not be taken for the next one's
            self._warm.kill()
            raise
        return codes

    def _new_folder(self) -> Path:
        self._count += 1
        folder = self._folder / f"run{self._count}"
        folder.mkdir()
        return folder

    def autofit(self, case: Case, request: Request, folder: Path | None = None) -> Ended:
        """The full run's own ranks; in `folder` it goes on from what lies there."""
        run = RunFolder(folder or self._new_folder())
        run.create()
        hardware = write_run(run, case, request)
        arguments = training_arguments(hardware, training_files(run, case.rung))
        run.training_log.unlink(missing_ok=True)
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(case.ranks)}
        jobs = [
            {
                "module": "autofit.worker.train",
                "arguments": [*arguments, f"--local_rank={rank}"],
                "environment": {**place, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_SIZE": str(case.ranks)},
                "log": str(run.training_log),
            }
            for rank in range(case.ranks)
        ]
        codes = self._run(jobs)
        reports = read_reports(run.logs, case.ranks)
        log = run.training_log.read_text()
        return Ended(codes, reports, _history(run), run.model, run.root, log)

    def plain(self, request: Request, case: Case, **words: float | str) -> Ended:
        """One process with the whole batch; trained once for all cases that are to be like it. `words` are arguments of
        trl's that the request does not tell."""
        key = (request, case.method, case.dtype, case.optimizer, *words.items())
        if key not in self._plain:
            self._plain[key] = self._train_plain(request, case, words)
        return self._plain[key]

    def _train_plain(self, request: Request, case: Case, words: dict[str, float | str]) -> Ended:
        folder = self._new_folder()
        arguments = {
            "per_device_train_batch_size": request.global_batch,
            "max_length": request.sequence_length,
            "learning_rate": request.training.learning_rate,
            "num_train_epochs": request.training.epochs,
            **words,
        }
        told = {
            "model": request.model,
            "data": request.data,
            "out": str(folder),
            "is_lora": case.method is Method.LORA,
            "is_bf16": case.dtype is Dtype.BF16,
            "is_adalomo": case.optimizer is Optimizer.ADALOMO,
            "arguments": arguments,
        }
        log = folder / "log"
        job = {"module": "tests.training.plain", "arguments": [json.dumps(told)], "environment": {}, "log": str(log)}
        codes = self._run([job])
        assert codes == [0], log.read_text()
        return Ended(
            codes, {}, json.loads((folder / "history.json").read_text()), folder / "model", folder, log.read_text()
        )


def write_run(run: RunFolder, case: Case, request: Request) -> Hardware:
    """What the session leaves in a run folder before it starts the training."""
    grown = accumulation(request.global_batch, case.ranks, case.micro_batch)
    strategy = Strategy(case.rung, case.micro_batch, grown)
    shape = read_model_files(request.model).shape
    run.write_request(request)
    run.write_choice(Choice(strategy, Measured(1, 1, 1.0, 1.0, 1.0, 0.0), "told"))
    run.write_ds_config(engine_config(strategy, request, shape, DeviceKind.CPU))
    return make_hardware(case.ranks)


def _history(run: RunFolder) -> list[dict[str, Any]]:
    if run.last_checkpoint is None:
        return []
    state: dict[str, Any] = json.loads(Path(run.last_checkpoint, "trainer_state.json").read_text())
    history: list[dict[str, Any]] = state["log_history"]
    return history


def training(model: Path, data: Path, **changed: Any) -> Request:
    """Two epochs of `data`; `changed` are fields of Training."""
    values = {"epochs": 2.0, "learning_rate": LEARNING_RATE, **changed}
    return make_request(
        model, SEQUENCE_TOKENS, global_batch=GLOBAL_BATCH, data=str(data), lora=LORA, training=Training(**values)
    )

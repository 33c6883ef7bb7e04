"""DeepSpeed's own autotuner (`deepspeed --autotuning tune`) on the benchmark's case, read in DeepSpeed 0.19.8."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from _case import MODEL, RANKS, Case, strategy

from autofit.domain.knobs.method import Method
from autofit.domain.strategy import Strategy
from autofit.process.rendezvous import free_port, remove_shared_memory

_SCRIPT = Path(__file__).with_name("_autotuned_train.py")
_DEEPSPEED = Path(sys.executable).parent / "deepspeed"


@dataclass(frozen=True)
class Tuned:
    tune_s: float  # from the start of the command to its end
    experiment_count: int  # whole `deepspeed` jobs, the one that profiles the model included
    strategy: Strategy | None  # None when it found nothing, or not in time
    train_batch: int | None  # what it made of the global batch
    is_cut_off: bool  # the deadline came first


def why_not() -> str | None:
    """What keeps the autotuner from running here."""
    return None if find_spec("tabulate") else "the package tabulate is missing (pip install tabulate)"


def tune(case: Case, folder: Path, deadline_s: float) -> Tuned:
    """Ends its whole process tree after `deadline_s`."""
    folder.mkdir()
    (folder / "ds_config.json").write_text(json.dumps(_config(case)))
    port, began_at_s = free_port(), time.monotonic()
    is_cut_off = _run(_command(case, port), folder, deadline_s)
    tuned = _tuned(folder / "autotuning_results", time.monotonic() - began_at_s, is_cut_off)
    for number in range(tuned.experiment_count):  # each experiment takes the next port, and leaves its files
        remove_shared_memory(str(port + number))
    return tuned


def _run(command: list[str], folder: Path, deadline_s: float) -> bool:
    """Whether the deadline came before the end. The experiments' launchers stay in its group, and so do their ranks."""
    with (folder / "autotuner.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(folder),
            start_new_session=True,
        )
    try:
        process.wait(deadline_s)
    except subprocess.TimeoutExpired:
        return True
    finally:
        _kill_group(process)
    return False


def _command(case: Case, port: int) -> list[str]:
    request = case.request
    assert request.memory_limit_bytes is not None
    script = [str(_SCRIPT), "--deepspeed", "--deepspeed_config", "ds_config.json", "--model", str(MODEL)]
    script += ["--seq", str(request.sequence_length), "--limit-bytes", str(request.memory_limit_bytes)]
    return [str(_DEEPSPEED), "--master_port", str(port), "--autotuning", "tune", *script]


def _config(case: Case) -> dict[str, object]:
    """`max_train_batch_size` keeps it from raising the global batch; "fast" tunes micro-batch and stage only."""
    batch = case.request.global_batch
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "bf16": {"enabled": True},
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": [1, 2, 3]},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "autotuning": {"enabled": True, "fast": True, "overwrite": True, "max_train_batch_size": batch},
    }


def _environment(folder: Path) -> dict[str, str]:
    """After each experiment the autotuner has pdsh run `pkill -f` over the machine: a stand-in keeps it from that. And
    it takes a line with the word "error" for one: torch has it in a warning about torchao, of this module."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    (bin_folder / "pdsh").symlink_to(shutil.which("true") or "/bin/true")
    path = os.pathsep.join([str(bin_folder), str(_DEEPSPEED.parent), os.environ.get("PATH", os.defpath)])
    own = {
        "TORCH_LOGS": "-torch.utils._pytree",
        "DS_ACCELERATOR": "cpu",
        "LOCAL_SIZE": str(RANKS),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return os.environ | own | {"PATH": path}


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # all of them have ended by themselves
    process.wait()


def _tuned(results: Path, tune_s: float, is_cut_off: bool) -> Tuned:
    """Its micro-batch may be one that does not divide the global batch, of which it then makes another."""
    experiment_count = len(list(results.glob("*/exp.json")))
    optimal = results / "ds_config_optimal.json"
    if not optimal.is_file():
        return Tuned(tune_s, experiment_count, None, None, is_cut_off)
    config = json.loads(optimal.read_text())
    rows, stage = config["train_micro_batch_size_per_gpu"], config["zero_optimization"]["stage"]
    train_batch = config["train_batch_size"]
    pick = strategy(Method.FULL, stage, False, rows, train_batch)
    return Tuned(tune_s, experiment_count, pick, train_batch, is_cut_off)

"""The launcher that imports everything once: what it brings, and that nothing is left of it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from autofit.worker.deepspeed import late_compilation
from tests.waiting import DEADLINE_S, is_alive, wait_until

SEEN = """
import gc, json, os, sys, threading
from autofit.worker.deepspeed import warm_launcher
warm_launcher._import_all()
import torch._inductor.config
print(json.dumps({
    "compiler": "torch._inductor.compile_fx" in sys.modules,
    "trainer": "trl.trainer.sft_trainer" in sys.modules,
    "threads": threading.active_count(),
    "cuda": torch.cuda.is_initialized(),
    "collects": gc.isenabled(),
    "frozen": gc.get_freeze_count() > 100_000,
    "left": [name for name in ("TOKENIZERS_PARALLELISM", "TORCHINDUCTOR_COMPILE_THREADS") if name in os.environ],
    "compile_threads": torch._inductor.config.compile_threads,
    "cores": torch._inductor.config.decide_compile_threads(),
}))
"""

# A command that is killed with its launcher standing by.
COMMAND = """
import sys, time
from pathlib import Path
from autofit.domain.hardware import DeviceKind
from autofit.running import standby
with standby.Standby(DeviceKind.CPU, Path(sys.argv[1])) as waiting:
    waiting.start()
    waiting.settle()
    print(waiting._child.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_everything_is_imported_but_what_would_harm_a_fork_or_a_long_training() -> None:
    said = subprocess.run([sys.executable, "-c", SEEN], capture_output=True, check=True).stdout
    seen = json.loads(said.splitlines()[-1])
    assert seen.pop("compile_threads") == seen.pop("cores")
    assert seen == {
        "compiler": False,
        "trainer": True,
        "threads": 1,
        "cuda": False,
        "collects": True,
        "frozen": True,
        "left": [],
    }


@pytest.mark.slow
def test_what_stands_by_dies_with_a_command_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COMMAND, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert is_alive(pid), (tmp_path / "log").read_text()
        process.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), within_s=DEADLINE_S)


def test_a_function_is_compiled_when_it_is_called_first(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []

    def compile(function: object, **options: object) -> object:
        compiled.append((function, options))
        return lambda a, *, b: ("compiled", a, b)

    def function(a: int, *, b: int) -> None:
        """What it does."""

    monkeypatch.setattr(torch, "compile", compile)
    late = late_compilation.compiled_late(function, dynamic=False)
    assert (late.__name__, late.__doc__) == ("function", "What it does.")
    assert compiled == []
    assert [late(1, b=2), late(1, b=2)] == [("compiled", 1, 2)] * 2
    assert compiled == [(function, {"dynamic": False})]


@pytest.mark.slow
def test_nothing_that_a_rank_imports_brings_the_compiler() -> None:
    """bitsandbytes would, which PEFT imports."""
    said = "import autofit.worker.agent.imports, sys; print('bitsandbytes' in sys.modules, [*sys.modules])"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].startswith("True ")
    assert "torch._inductor.compile_fx" not in done.stdout

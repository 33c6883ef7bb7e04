"""The whole command on two CPU ranks with real DeepSpeed, ended by signals: what was trained is saved first."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from autofit.process.rank_place import read_place
from tests.test_real_training import _losses, autofit
from tests.waiting import is_alive, wait_until

pytestmark = pytest.mark.slow

WORDS = ["--method", "full", "--zero-stage", "2", "--micro-batch", "2", "--gradient-checkpointing", "off"]
WORDS += ["--learning-rate", "1e-3", "--max-steps", "12", "--save-steps", "100", "--tolerance", "1%"]
SCONTROL = """#!/bin/sh
echo "$@" >> "{heard}"
echo JobId=7 JobState=RUNNING Requeue=1 BatchFlag=1
"""


class Training:
    """One start of the command; what it said so far."""

    def __init__(self, process: subprocess.Popen[str], out: Path) -> None:
        self._process = process
        self._out = out
        self.said = ""

    @property
    def below(self) -> list[psutil.Process]:
        return psutil.Process(self._process.pid).children(recursive=True)

    def rank(self, number: int) -> int:
        place = read_place(self._out / "logs", number)
        assert place is not None
        return place.process_id

    def until(self, words: str) -> None:
        """Reads until the screen says this."""
        assert self._process.stdout is not None
        while not re.search(words, self.said):
            line = self._process.stdout.readline()
            assert line, self.said
            self.said += line

    def send(self, number: signal.Signals, *, to_all: bool = False) -> None:
        for process in [*(self.below if to_all else []), psutil.Process(self._process.pid)]:
            process.send_signal(number)

    def end(self) -> int:
        below = self.below
        assert self._process.stdout is not None
        self.said += self._process.stdout.read()
        exit_code = self._process.wait(120)
        wait_until(lambda: not any(is_alive(process.pid) for process in below))
        return exit_code


@contextmanager
def training(out: Path, **environment: str) -> Iterator[Training]:
    process = subprocess.Popen(
        autofit(*WORDS, "--output-dir", str(out)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )
    try:
        yield Training(process, out)
    finally:
        process.kill()
        process.wait()


def saved_steps(out: Path) -> list[int]:
    return sorted(int(path.name.partition("-")[2]) for path in (out / "checkpoints").glob("checkpoint-*"))


def test_signals_save_first_and_the_same_command_goes_on_to_the_undisturbed_losses(tmp_path: Path) -> None:
    """A scheduler's, sent twice, whose job is started again; one to every process of a job's step; Ctrl-C twice."""
    out, heard = tmp_path / "run", tmp_path / "heard"
    scontrol = tmp_path / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(SCONTROL.format(heard=heard))
    scontrol.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1", "PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    with training(out, **slurm) as run:
        run.until(r"training +2/12 · loss")
        run.send(signal.SIGTERM)
        run.until("SIGTERM: saving after this step")
        run.send(signal.SIGTERM)
        assert run.end() == 128 + signal.SIGTERM, run.said
    (first,) = saved_steps(out)
    assert 3 <= first <= 6
    assert f"SIGTERM: saved after step {first}, and ended" in run.said
    assert "Slurm starts job 7 again (restart 2)" in run.said
    assert heard.read_text().splitlines() == ["--oneliner show job 7", "requeue 7"]

    with training(out) as run:
        run.until(rf"training +{first + 1}/12 · loss")
        run.send(signal.SIGUSR1, to_all=True)
        assert run.end() == 128 + signal.SIGUSR1, run.said
    second = saved_steps(out)[-1]
    assert first < second < 12

    with training(out) as run:
        run.until(rf"training +{second}/12")
        wait_until(lambda: (place := read_place(out / "logs", 1)) is not None and place.step > second)
        os.kill(run.rank(1), signal.SIGSTOP)  # so that it cannot be saved in time
        run.send(signal.SIGINT)
        run.until("SIGINT: saving after this step")
        wait_until(lambda: not is_alive(run.rank(0)) or (not run.send(signal.SIGINT) and not run.below))
        assert run.end() == 130, run.said
    assert saved_steps(out)[-1] == second

    with training(out) as run:
        assert run.end() == 0, run.said
    rerun = subprocess.run([str(out / "command.sh")], capture_output=True, text=True, check=False)
    assert rerun.returncode == 0, rerun.stdout[-2000:] + rerun.stderr[-2000:]
    losses, undisturbed = _losses(out / "logs/progress.jsonl"), _losses(out / "rerun/progress.jsonl")
    assert losses == {step: undisturbed[step] for step in range(second + 1, 13)}
    assert (out / "model/model.safetensors").read_bytes() == (out / "rerun/model/model.safetensors").read_bytes()

"""Nobody reads any more: the display ends, the training goes on, and the exit code is the training's."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# A command line whose session only shows what a training shows; argv[1] is its end.
COMMAND = """
import sys, time, types
from pathlib import Path
import autofit.app
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.errors import TrainingFailed
from autofit.domain.event import Note, TrainingProgress, TrainingStarted
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.strategy import Rung, Strategy

def train(request, *, screen, **rest):
    rung = Rung(
        zero_stage=2, method=Method.FULL, gradient_checkpointing=GradientCheckpointing.OFF, offload=Offload.NONE,
        dtype=Dtype.BF16, attention=Attention.SDPA,
    )
    strategy = Strategy(rung, 1, 1)
    screen.show(TrainingStarted(strategy, None, "training.log"))
    while not Path("left").exists():
        time.sleep(0.01)
    for step in range(40):
        screen.show(TrainingProgress(step, 40, 1.0, 10.0, None, None))
        screen.show(Note("a line " * 100))
        time.sleep(0.02)  # several frames of a live screen
    Path("trained").touch()
    if sys.argv[1] == "fails":
        raise TrainingFailed("rank 3 was killed.")

session = types.ModuleType("autofit.app.train")
session.train = train
sys.modules["autofit.app.train"] = autofit.app.train = session
from autofit.cli.main import main
main(["train", "--model", "m", *sys.argv[2:]])
"""

ENDS = pytest.mark.parametrize(("end", "code"), [("ends", 0), ("fails", 1)])


def start(tmp_path: Path, end: str, *words: str, **streams: int) -> subprocess.Popen[bytes]:
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, end, *words], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, **streams
    )


def check(tmp_path: Path, process: subprocess.Popen[bytes], code: int) -> None:
    (tmp_path / "left").touch()
    assert process.wait(120) == code
    assert (tmp_path / "trained").exists()


@ENDS
@pytest.mark.parametrize("words", [(), ("--json",)], ids=["plain", "json"])
def test_a_pipe_whose_reader_left(tmp_path: Path, end: str, code: int, words: tuple[str, ...]) -> None:
    """Both streams, as with `2>&1 | head -1`."""
    process = start(tmp_path, end, *words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    if not words:
        assert process.stdout.readline().startswith(b"training")
    process.stdout.close()
    check(tmp_path, process, code)


@ENDS
def test_a_terminal_that_hung_up(tmp_path: Path, end: str, code: int) -> None:
    """Not the one that we belong to: no SIGHUP comes. rich draws from a thread of its own."""
    ours, theirs = pty.openpty()
    process = start(tmp_path, end, stdout=theirs, stderr=theirs)
    os.close(theirs)
    assert b"training" in os.read(ours, 4096)
    os.close(ours)
    check(tmp_path, process, code)


@ENDS
def test_streams_that_were_closed_from_the_start(tmp_path: Path, end: str, code: int) -> None:
    closed = "import os, sys; [os.close(n) for n in range(3)]; os.execv(sys.executable, sys.argv[1:])"
    command = [sys.executable, "-c", closed, sys.executable, "-c", COMMAND, end]
    check(tmp_path, subprocess.Popen(command, cwd=tmp_path), code)


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        process = start(tmp_path, "ends", stdout=full.fileno(), stderr=full.fileno())
    check(tmp_path, process, 0)

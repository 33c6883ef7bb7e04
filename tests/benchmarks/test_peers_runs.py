"""How the peers benchmark watches a command, and which setting a peer runs with."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from _peers_competitors import Peer, Setting, Training
from _peers_figures import Run
from _peers_run import Command, Failed, StepFile

from autofit.domain.knobs.method import Method
from tests.builders import make_hardware


def is_step(line: str) -> bool:
    return "loss" in line


def command(folder: Path, script: str, stop_after: int | None = None) -> Command:
    log = folder / "command.log"
    words = [sys.executable, "-u", "-c", script]
    return Command(words, folder, dict(os.environ), StepFile(log, is_step), log, stop_after)


def test_a_line_counts_once_it_is_whole(tmp_path: Path) -> None:
    steps = StepFile(tmp_path / "log", is_step)
    assert steps.new_steps() == 0
    steps.path.write_text("loss 1\nother\nlo")
    assert steps.new_steps() == 1
    steps.path.write_text("loss 1\nother\nloss 2\n")
    assert steps.new_steps() == 1
    assert steps.new_steps() == 0


def test_steps_are_stamped_in_their_order_before_the_end(tmp_path: Path) -> None:
    watched = command(tmp_path, "for step in range(5): print('loss', step)").run()
    assert len(watched.step_ends_s) == 5
    assert list(watched.step_ends_s) == sorted(watched.step_ends_s)
    assert watched.step_ends_s[-1] <= watched.total_s


def test_one_that_fails_after_its_steps_has_not_trained(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="no disk"):
        command(tmp_path, "for step in range(5): print('loss', step)\nraise SystemExit('no disk')").run()


def test_one_that_has_shown_enough_is_interrupted(tmp_path: Path) -> None:
    endless = "import itertools, time\nfor step in itertools.count(): print('loss', step); time.sleep(0.01)"
    assert len(command(tmp_path, endless, stop_after=6).run().step_ends_s) >= 6


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path, tmp_path / "rows.jsonl", 64, 8, Method.FULL, 8, 16, make_hardware(2), None)


def tried(peer: Peer, monkeypatch: pytest.MonkeyPatch, *ends: str | None) -> list[str]:
    """The settings that `peer` tries, whose runs fail with these words, None: run."""
    settings: list[str] = []

    def play(peer: Peer, folder: Path, step_count: int, setting: Setting) -> Run:
        settings.append(str(setting))
        if (words := ends[len(settings) - 1]) is not None:
            raise Failed(words)
        return Run((1.0, 2.0, 3.0, 4.0), 5.0, 0.0, str(setting))

    monkeypatch.setattr(Peer, "_run", play)
    peer.run(Path("nowhere"), 4)
    return settings


def test_a_peer_that_runs_out_of_memory_takes_the_next_setting_and_keeps_it(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer, full = Peer("trl", ("torchrun",), training), "CUDA out of memory. Tried to allocate 2 GiB"
    assert tried(peer, monkeypatch, full, full, full, None) == [
        "mb4 x 1", "mb2 x 2", "mb1 x 4", "mb4 x 1, gradient checkpointing"
    ]  # fmt: skip
    assert tried(peer, monkeypatch, None) == ["mb4 x 1, gradient checkpointing"]


def test_another_failure_is_not_tried_with_less(training: Training, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer("trl", ("torchrun",), training)
    with pytest.raises(Failed, match="no module"):
        tried(peer, monkeypatch, "no module named deepspeed", None)

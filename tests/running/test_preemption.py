"""A full run that hears a signal, with a stand-in for DeepSpeed's launcher whose ranks are shells."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from autofit.domain.event import Note, TrainingEnded
from autofit.domain.outcome import Phase
from autofit.domain.run_end import Preempted, Unsaved
from autofit.probing.protocol import RankStopped, to_line
from autofit.process import signals
from autofit.process.signals import Terminated
from autofit.running import full_run, training_process
from autofit.running.stop_request import TrainingPreempted
from autofit.running.supervision import Supervision
from autofit.running.training_process import Launcher
from tests.running.test_training_process import CPUS, TRAINED, Bench, progress


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(training_process, "_POLL_S", 0.02)
    monkeypatch.setattr(training_process, "_POLITE_S", 0.2)
    bench = Bench(tmp_path)
    monkeypatch.setattr(full_run, "Launcher", partial(Launcher, program=[str(bench.program)]))
    monkeypatch.setattr(signals, "_process", signals._Process())
    wakeup = signal.set_wakeup_fd(-1)
    before = {number: signal.getsignal(number) for number in (*signals._ALWAYS, signal.SIGALRM)}
    signals.note_signals()
    yield bench
    signals.take()
    signal.set_wakeup_fd(wakeup)
    for number, handler in before.items():
        signal.signal(number, handler)


def report(bench: Bench, line: bytes) -> str:
    """Leaves this as the report of both ranks."""
    text = line.decode().strip()
    return "; ".join(f"echo '{text}' > '{bench.files.reports}/rank{rank}.json'" for rank in range(2))


def places(bench: Bench, phase: Phase, step: int) -> str:
    return "; ".join(bench.write_place(rank, "$$", phase, step) for rank in range(2))


def train(bench: Bench, number: signal.Signals, *, grace_s: float = 90.0) -> tuple[TrainingEnded, list[str]]:
    """Sends itself the signal once the stand-in tells of its progress."""
    notes: list[str] = []

    def show(event: object) -> None:
        if event == progress(1):
            signal.raise_signal(number)
        elif isinstance(event, Note):
            notes.append(event.text)

    supervision = Supervision(grace_s=grace_s)
    end = full_run.train(CPUS, bench.files, bench.log_path, show, supervision=supervision)
    assert isinstance(end, TrainingEnded)
    return end, notes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ranks_are_told_and_what_they_saved_is_told(bench: Bench, number: signal.Signals) -> None:
    stopped = report(bench, to_line(RankStopped(8, signal.SIGUSR1)))
    bench.script(
        f"stop() {{ {stopped}; exit 138; }}",
        "trap stop USR1",
        places(bench, Phase.STEP, 7),
        bench.write_progress(1),
        "while :; do sleep 0.02; done",
    )
    with pytest.raises(TrainingPreempted) as preempted:
        train(bench, number)
    assert preempted.value.end == Preempted(8, number)


def test_before_the_first_step_all_is_ended_at_once(bench: Bench) -> None:
    bench.script(bench.write_pid("$$"), places(bench, Phase.INITIALIZE, 0), bench.write_progress(1), "sleep 600")
    with pytest.raises(Terminated) as terminated:
        train(bench, signal.SIGTERM)
    assert not isinstance(terminated.value, TrainingPreempted)
    bench.check_nothing_lives()


def test_ranks_that_do_not_save_within_the_grace_are_ended(bench: Bench) -> None:
    bench.script(
        "trap '' USR1", bench.write_pid("$$"), places(bench, Phase.STEP, 7), bench.write_progress(1), "sleep 600"
    )
    with pytest.raises(TrainingPreempted) as preempted:
        train(bench, signal.SIGTERM, grace_s=0.4)
    assert preempted.value.end == Unsaved(signal.SIGTERM, 0.4)
    bench.check_nothing_lives()


def test_a_model_that_is_being_saved_is_saved_and_the_signal_comes_up_afterwards(bench: Bench) -> None:
    """Before the next training of a recipe begins, or anything else is waited for."""
    trained = report(bench, to_line(TRAINED))
    heard = "trap 'heard=1' USR1"
    until = 'until [ -n "$heard" ]; do sleep 0.02; done'
    bench.script(heard, places(bench, Phase.SAVE, 0), bench.write_progress(1), until, trained)
    end, notes = train(bench, signal.SIGTERM)
    assert end.step_count == TRAINED.step_count
    assert notes == ["SIGTERM: saving after this step, within 1:30, then ending; Ctrl-C ends it at once"]
    with pytest.raises(Terminated):
        signals.check()

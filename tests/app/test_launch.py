"""What becomes of a line of `deepspeed`: handed over with other words, word for word, or not at all."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from autofit.app import launch, tune
from autofit.app.script.tunable_line import NotTuned
from autofit.domain.deepspeed_line import LauncherOptions, LaunchLine, LaunchSettings
from autofit.domain.errors import AutofitError, HostFailed, InternalError, NothingFits, UsageError
from autofit.domain.event import Event, Note
from autofit.domain.job_end import JobEnd
from autofit.domain.outcome import Crashed, Phase
from tests.fake_packages import write_packages

LINE = LaunchLine(("--num_gpus", "2"), "train.py", ("--deepspeed", "ds.json"))
TUNED = ("--num_gpus", "2", "train.py", "--deepspeed", "/run/ds.json")


class Bench:
    """`tuned` is what the search comes to: words, or an exception."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tuned: tuple[str, ...] | Exception = TUNED
        self.asked: list[LaunchLine] = []
        self.handed_over: list[tuple[str, ...]] = []
        self.notes: list[str] = []
        self.crashes: list[Exception] = []
        self.is_open = False
        monkeypatch.setattr(tune, "tune", self._tune)
        monkeypatch.setattr(launch, "hand_over", self._hand_over)

    def launch(self, line: LaunchLine = LINE, **settings: Any) -> int:
        return launch.launch(line, LaunchSettings(**settings), screen=self, log_crash=self._log)

    def _tune(self, line: LaunchLine, settings: LaunchSettings, *, screen: object) -> tuple[str, ...]:
        self.asked.append(line)
        if isinstance(self.tuned, Exception):
            raise self.tuned
        return self.tuned

    def _hand_over(self, words: tuple[str, ...], *, master_port: int) -> JobEnd:
        assert not self.is_open, "the terminal is the training's"
        self.handed_over.append(words)
        return JobEnd(7, Crashed(None, Phase.SCRIPT, "it ended", exit_code=7))

    def _log(self, error: Exception) -> str:
        self.crashes.append(error)
        return "Its log: crash.log."

    def __enter__(self) -> Bench:
        self.is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_open = False

    def show(self, event: Event) -> None:
        assert isinstance(event, Note)
        self.notes.append(event.text)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def test_the_tuned_words_are_handed_over_with_the_trainings_exit_code(bench: Bench) -> None:
    assert bench.launch() == 7
    assert bench.handed_over == [TUNED]


def test_what_is_off_or_refused_is_not_even_looked_at(bench: Bench) -> None:
    assert bench.launch(is_off=True) == 7
    assert bench.launch(LaunchLine(("--nonsense",))) == 7
    assert bench.handed_over == [LINE.words, ("--nonsense",)]
    assert (bench.asked, bench.notes) == ([], [])


def test_where_there_is_nothing_to_tune_one_line_says_so(bench: Bench) -> None:
    bench.tuned = NotTuned("no DeepSpeed config is named: it runs as it is")
    assert bench.launch() == 7
    assert bench.handed_over == [LINE.words]
    assert bench.notes == ["no DeepSpeed config is named: it runs as it is"]


def test_where_the_launcher_speaks_for_itself_nothing_is_said(bench: Bench) -> None:
    bench.tuned = NotTuned()
    assert bench.launch() == 7
    assert (bench.handed_over, bench.notes) == ([LINE.words], [])


def test_where_a_package_is_too_old_to_probe_with_the_script_runs_as_it_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    write_packages(tmp_path, transformers="4.57.0")
    assert bench.launch() == 7
    assert (bench.handed_over, bench.asked) == ([LINE.words], [])
    assert len(bench.notes) == 1
    needs = "a search needs transformers 5.23 or newer (4.57.0 is installed)"
    assert bench.notes[0].startswith(f"{needs} ({sys.executable} -m pip install 'transformers>=5.23')")
    assert bench.notes[0].endswith(": the script runs as it is, unsearched.")


@pytest.mark.parametrize("error", [NothingFits(), HostFailed("10.0.0.2 cannot be reached")])
def test_what_only_the_user_can_mend_starts_nothing(bench: Bench, error: AutofitError) -> None:
    bench.tuned = error
    with pytest.raises(type(error)):
        bench.launch()
    assert bench.handed_over == []


@pytest.mark.parametrize("error", [InternalError("the agent has ended"), KeyError("a bug")])
def test_our_own_failure_is_loud_and_the_job_runs(bench: Bench, error: Exception) -> None:
    bench.tuned = error
    assert bench.launch() == 7
    assert bench.handed_over == [LINE.words]
    assert bench.crashes == [error]
    assert "AUTOFIT COULD NOT SEARCH" in bench.notes[0]
    assert "crash.log" in bench.notes[0]


def test_a_folder_that_cannot_be_used_is_loud_but_no_bug(bench: Bench) -> None:
    bench.tuned = UsageError("--output-dir /nowhere cannot be made")
    assert bench.launch() == 7
    assert bench.crashes == []
    assert "/nowhere" in bench.notes[0]


def test_a_dry_run_tells_the_words_and_starts_nothing(bench: Bench) -> None:
    assert bench.launch(is_dry_run=True) == 0
    assert bench.handed_over == []
    assert bench.notes == ["not started: deepspeed --num_gpus 2 train.py --deepspeed /run/ds.json"]


@pytest.mark.parametrize(("mode", "is_started"), [("tune", False), ("run", True)])
def test_autotuning_is_autofits_search(bench: Bench, mode: str, is_started: bool) -> None:
    words = ("--autotuning", mode)
    options = LauncherOptions(autotuning=mode)
    bench.launch(LaunchLine((*words, "-q"), "train.py", LINE.arguments, options, tuned_option_words=("-q",)))
    assert bench.asked == [LaunchLine(("-q",), "train.py", LINE.arguments)]
    assert bench.handed_over == ([TUNED] if is_started else [])
    assert "autofit's search takes the place" in bench.notes[0]


def test_deepspeeds_own_tuner_runs_where_there_is_nothing_to_tune(bench: Bench) -> None:
    bench.tuned = NotTuned("no config")
    options = LauncherOptions(autotuning="tune")
    line = LaunchLine(("--autotuning", "tune"), "train.py", (), options, tuned_option_words=())
    assert bench.launch(line) == 7
    assert bench.handed_over == [line.words]

"""What a script's own parser shows: the flag of accumulation that it takes, and what it says before it ends the
script."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click
import pytest

from autofit.planning.script.script_arguments import ACCUMULATION_FLAGS
from autofit.probing.protocol import RankFailed
from autofit.worker.script.argument_parsers import watch_parsers
from autofit.worker.script.script_observer import ScriptObserver
from autofit.worker.script.script_probe import ScriptProbe
from autofit.worker.script.step_questions import StepQuestions

DASHES = "--gradient-accumulation-steps"


@dataclass
class Heard:
    flags: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """What is told by the parsers of this process, which are as they were after the test."""
    for owner, name in (
        (argparse.ArgumentParser, "parse_known_args"),
        (argparse.ArgumentParser, "error"),
        (click.Command, "parse_args"),
        (click.UsageError, "show"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    told = Heard()
    watch_parsers(ACCUMULATION_FLAGS, told.flags.append, told.complaints.append)
    return told


def _by_argparse(flag: str, words: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(flag, type=int)
    parser.parse_args(words)


def _by_click(flag: str, words: list[str]) -> None:
    click.Command("train", params=[click.Option([flag], type=int)], callback=lambda **_: None).main(words)


@pytest.mark.parametrize("parse", [_by_argparse, _by_click])
def test_a_flag_is_told_as_the_script_spells_it(heard: Heard, parse: Callable[..., None]) -> None:
    for flag in (DASHES, "--gradient_accumulation_steps", "--steps"):
        with contextlib.suppress(SystemExit):  # click ends its program
            parse(flag, [flag, "2"])
    assert heard.flags == [DASHES, "--gradient_accumulation_steps"]
    assert heard.complaints == []


@pytest.mark.parametrize("parse", [_by_argparse, _by_click])
def test_a_refused_line_is_told_in_the_parsers_words(heard: Heard, parse: Callable[..., None]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse("--steps", [f"{DASHES}=2"])
    assert ended.value.code == 2
    assert len(heard.complaints) == 1
    assert DASHES in heard.complaints[0]


def test_a_probe_that_its_parser_ends_says_so() -> None:
    class Left(Exception):
        pass

    def leave(report: Any) -> Any:
        raise Left(report)

    observer = ScriptObserver(StepQuestions(), None)
    rank: Any = argparse.Namespace(phase=None, step=0)
    probe = ScriptProbe(argparse.Namespace(), rank, observer, leave)  # type: ignore[arg-type]
    said = []
    for complaint in (None, "unrecognized arguments: --x"):
        observer.complaint = complaint
        with pytest.raises(Left) as left:
            probe.script_ended(2)
        report = left.value.args[0]
        assert isinstance(report, RankFailed)
        said.append(report.message)
    assert said == [
        "the script ended by itself with exit code 2 after 0 optimizer steps",
        "the script's own parser refuses its arguments: unrecognized arguments: --x",
    ]

"""The table of DeepSpeed's options against the installed DeepSpeed."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from autofit.cli.flags.deepspeed_options import LAUNCHER_OPTIONS, launcher_parser


def told(parser: argparse.ArgumentParser) -> dict[tuple[str, ...], tuple[object, ...]]:
    """What decides how a line is read, by the names of each option; those without a name are the script's."""
    return {
        tuple(action.option_strings) or (action.dest,): (
            action.dest,
            action.nargs,
            action.const,
            action.default,
            action.type,
            action.choices and tuple(action.choices),
            action.required,
        )
        for action in parser._actions
        if action.dest != "help"
    }


def installed_parser(monkeypatch: pytest.MonkeyPatch) -> argparse.ArgumentParser:
    from deepspeed.launcher import runner

    found: list[argparse.ArgumentParser] = []

    def catch(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        found.append(parser)

    with monkeypatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", catch)
        runner.parse_args([])
    return found[0]


def test_the_table_is_that_of_the_installed_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = installed_parser(monkeypatch), launcher_parser()
    assert told(ours) == told(theirs)
    assert ours.allow_abbrev == theirs.allow_abbrev
    assert (ours.prefix_chars, ours.fromfile_prefix_chars) == (theirs.prefix_chars, theirs.fromfile_prefix_chars)


def test_no_option_of_theirs_looks_like_ours() -> None:
    assert not [name for option in LAUNCHER_OPTIONS for name in option.names if name.startswith("--autofit")]

"""Commands that people paste: a shell reads from them the very names that they hold."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from autofit.domain.shell import path_word, shell_line, shell_word
from autofit.report.line import command_lines, plain

NAMES = [
    "plain",
    "two words",
    "it's",
    'a "quote"',
    "$HOME `id`",
    "a\nb\tc",
    "back\\slash'\n",
    "größe",
    "a;b|c&d*",
    "a  b",
]


def read_by_bash(line: str) -> list[str]:
    printed = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True).stdout
    return printed.decode().split("\0")[:-1]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_comes_back_from_a_line_of_its_own(name: str) -> None:
    assert read_by_bash(shell_word(name)) == [name]
    assert len(shell_word(name).splitlines()) == 1


def test_a_line_of_them_and_one_that_is_wrapped() -> None:
    assert read_by_bash(shell_line(NAMES)) == NAMES
    wrapped = plain(command_lines([shell_word(name) for name in NAMES], width=30))
    assert len(wrapped.splitlines()) > 3
    assert read_by_bash(wrapped.removeprefix("next")) == NAMES


def test_a_path_is_not_taken_for_an_option() -> None:
    assert path_word("-run of mine") == "'./-run of mine'"
    assert path_word(Path("/runs/-x")) == "/runs/-x"

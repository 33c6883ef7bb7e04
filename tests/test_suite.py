"""The suite itself: which cases it draws, and that it makes up for what it inherits."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.spread import COUNT, MOST_OF_A_FILE, drawn

NAMES = [f"test_{number}" for number in range(300)]
SENDS_SIGNALS = ["tests/process/test_signals.py", "-k", "end_of_the_block or other_endings"]


def ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def test_a_spread_is_limited_and_changes_with_its_seed() -> None:
    spreads = [drawn(NAMES, f"commit {number}") for number in range(200)]
    assert {len(spread) for spread in spreads} == {COUNT}
    assert spreads[0] == drawn(NAMES, "commit 0") != spreads[1]
    assert set().union(*spreads) == set(NAMES), "no case is never drawn"
    assert drawn(NAMES[:3], "commit 0") == set(NAMES[:3])


def test_a_large_table_leaves_the_others_their_part() -> None:
    large = [f"test_large.py::test_{number}" for number in range(2000)]
    small = [f"test_small.py::test_{number}" for number in range(20)]
    spread = drawn([*large, *small], "commit 0")
    assert len(spread & set(large)) == MOST_OF_A_FILE
    assert len(spread & set(small)) == MOST_OF_A_FILE


def test_every_promise_of_security_names_tests_that_are_there() -> None:
    root = Path(__file__).parents[1]
    text = (root / "SECURITY.md").read_text()
    promises = [
        line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| promise", "| ---"))
    ]
    assert len(promises) > 10
    named = [re.findall(r"`(tests/[\w/]+\.py)`", line) for line in promises]
    assert all(named), "a promise that no test holds"
    assert not [name for names in named for name in names if not (root / name).is_file()]


@pytest.mark.slow
def test_signals_that_are_ignored_where_the_suite_is_started_are_heeded_in_it() -> None:
    """As under `nohup … &`."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *SENDS_SIGNALS]
    root = Path(__file__).parents[1]
    ended = subprocess.run(
        command, cwd=root, stdout=subprocess.PIPE, text=True, check=False, preexec_fn=ignore_signals, timeout=120
    )
    assert "3 passed" in ended.stdout, ended.stdout

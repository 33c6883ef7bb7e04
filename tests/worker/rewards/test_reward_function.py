"""Reward functions by their names: found, tried, and followed while they run."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.request import Reward
from autofit.probing.protocol import FailureKind
from autofit.worker.rank.failure import KnownFailure
from autofit.worker.rewards.reward_function import followed, load_function, try_function

FUNCTIONS = """
from neighbour import ONE

def good(completions, **columns):
    return [ONE for _ in completions]

def few(completions, **columns):
    return [1.0]

def single(completions, **columns):
    return 1.0

def fails(completions, **columns):
    return [answer["words"] for answer in completions]

async def waits(completions, **columns):
    return [2.0 for _ in completions]

class Judge:
    @staticmethod
    def score(completions, **columns):
        return [3.0 for _ in completions]

NUMBER = 3
"""
ANSWERS = {"prompts": ["a", "b"], "completions": ["c", "d"], "completion_ids": [[1], [2]]}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The working directory with a module and what it imports, which nobody imports afterwards."""
    (tmp_path / "judging.py").write_text(FUNCTIONS)
    (tmp_path / "neighbour.py").write_text("ONE = 1.0\n")
    (tmp_path / "broken.py").write_text("import a_package_that_is_not_there\n")
    (tmp_path / "unreadable.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    path, known = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.parametrize(("source", "reward"), [("judging:good", 1.0), ("judging.py:Judge.score", 3.0)])
def test_a_function_is_found_in_a_module_or_a_file_of_the_working_directory(source: str, reward: float) -> None:
    assert load_function(Reward(source))(**ANSWERS) == [reward, reward]


def test_a_file_elsewhere_imports_what_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    assert load_function(Reward("../judging.py:good"))(**ANSWERS) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("judging.py:godo", "judging.py has no godo; it has fails, few, good, single, waits"),
        ("judging.py:NUMBER", "NUMBER is no function but an int"),
        ("nowhere.py:good", "there is no file "),
        ("nowhere:good", "there is no module nowhere in "),
        ("broken:good", "importing it raises ModuleNotFoundError: No module named 'a_package_that_is_not_there' ("),
        ("broken.py:good", "importing it raises ModuleNotFoundError: No module named 'a_package_that_is_not_there' ("),
        ("unreadable.py:good", "importing it raises SyntaxError: invalid syntax ("),
    ],
)
def test_what_is_not_there_is_said_in_one_sentence(source: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        load_function(Reward(source))
    assert str(refused.value).startswith(f"--reward {source}: {words}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("few", "gives 1 rewards for 2 answers: one for each is wanted"),
        ("single", "gives a float for 2 answers: a list of 2 is wanted"),
        ("fails", "raises TypeError: string indices must be integers"),
    ],
)
def test_a_function_that_cannot_be_used_is_heard_of_before_anything_starts(name: str, words: str) -> None:
    reward = Reward(f"judging.py:{name}")
    with pytest.raises(UsageError, match=f"--reward judging.py:{name} {words}"):
        try_function(reward, load_function(reward), ANSWERS)


@pytest.mark.parametrize("name", ["good", "waits", "Judge.score"])
def test_a_good_function_is_called_once_and_nothing_is_said(name: str) -> None:
    reward = Reward(f"judging.py:{name}")
    try_function(reward, load_function(reward), ANSWERS)


def test_in_a_training_the_line_of_the_user_is_named() -> None:
    call = followed(Reward("judging.py:fails"), load_function(Reward("judging.py:fails")))
    with pytest.raises(KnownFailure, match=r"judging\.py, line 14\)$") as failure:
        call(**ANSWERS)
    assert failure.value.kind is FailureKind.USER_FAULT
    waits = followed(Reward("judging.py:waits"), load_function(Reward("judging.py:waits")))
    assert asyncio.run(waits(**ANSWERS)) == [2.0, 2.0]
    assert waits.__name__ == "waits"  # by which trl calls its figures

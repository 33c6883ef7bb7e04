"""A reward function of the user's: found by its name, and followed while it runs."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from autofit.domain.errors import UsageError
from autofit.domain.request import Reward
from autofit.probing.protocol import FailureKind
from autofit.worker.rank.failure import KnownFailure

RewardFunction = Callable[..., Any]


def load_function(reward: Reward) -> RewardFunction:
    """The function that `module:function` or `file.py:function` names; UsageError where it is not there, cannot be
    imported or is no function.

    Modules are looked for in the working directory as well, and what a file imports also beside it.
    """
    place, _, name = reward.source.rpartition(":")
    found: Any = _module(reward, place)
    for part in name.split("."):
        if not hasattr(found, part):
            raise UsageError(f"--reward {reward.source}: {place} has no {name}{_offered(found)}")
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(f"--reward {reward.source}: {name} is no function but {_article(type(found).__name__)}")
    return found  # type: ignore[no-any-return]


def _module(reward: Reward, place: str) -> ModuleType:
    _look_in(os.getcwd())
    try:
        return _from_file(reward, Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (place == error.name or place.startswith(f"{error.name}.")):
            raise UsageError(
                f"--reward {reward.source}: there is no module {place} in {os.getcwd()} or among those installed"
            ) from error
        raise UsageError(_raised(f"--reward {reward.source}: importing it raises", error)) from error
    except (Exception, SystemExit) as error:  # whatever the user's own code does
        raise UsageError(_raised(f"--reward {reward.source}: importing it raises", error)) from error


def _from_file(reward: Reward, path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"--reward {reward.source}: there is no file {path.absolute()}")
    _look_in(str(path.absolute().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path.absolute())
    assert spec is not None, path  # it ends with .py
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _look_in(folder: str) -> None:
    """Has modules looked for in `folder`, behind all others: a user's datasets.py must not stand for the library."""
    if folder not in sys.path:
        sys.path.append(folder)


def _offered(module: Any) -> str:
    """The functions that could be meant, as the end of a sentence."""
    own = [name for name, value in vars(module).items() if inspect.isfunction(value) and not name.startswith("_")]
    return f"; it has {', '.join(sorted(own))}" if own else ""


def _article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def followed(reward: Reward, function: RewardFunction) -> RewardFunction:
    """The function, whose own errors and wrong numbers of rewards end a rank with a sentence that tells whose they
    are."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def awaited(**answers: Any) -> Any:
            try:
                return _checked(reward, await function(**answers), len(answers["completions"]))
            except Exception as error:
                raise _failure(reward, error) from error

        return awaited

    @functools.wraps(function)
    def called(**answers: Any) -> Any:
        try:
            return _checked(reward, function(**answers), len(answers["completions"]))
        except Exception as error:
            raise _failure(reward, error) from error

    called.__name__ = getattr(function, "__name__", type(function).__name__)  # by which trl calls its figures
    return called


def try_function(reward: Reward, function: RewardFunction, answers: Mapping[str, Any]) -> None:
    """Calls the function with a few answers; UsageError with what it raises, or where it gives another number of
    rewards."""
    call = followed(reward, function)
    try:
        if inspect.iscoroutinefunction(function):
            import asyncio

            asyncio.run(call(**answers))
        else:
            call(**answers)
    except KnownFailure as failure:
        raise UsageError(str(failure)) from failure


class _WrongRewards(Exception):
    """What a function gives is not one reward for each answer."""


def _checked(reward: Reward, rewards: Any, count: int) -> Any:
    if not isinstance(rewards, Sequence) and not hasattr(rewards, "__len__"):
        kind = _article(type(rewards).__name__)
        raise _WrongRewards(f"gives {kind} for {count} answers: a list of {count} is wanted")
    if len(rewards) != count:
        raise _WrongRewards(f"gives {len(rewards)} rewards for {count} answers: one for each is wanted")
    return rewards


def _failure(reward: Reward, error: Exception) -> KnownFailure:
    if isinstance(error, KnownFailure):
        return error
    told = f"--reward {reward.source}"
    sentence = f"{told} {error}" if isinstance(error, _WrongRewards) else _raised(f"{told} raises", error)
    return KnownFailure(FailureKind.USER_FAULT, sentence)


def _raised(what: str, error: BaseException) -> str:
    """The sentence of an error in the user's own code, with the line that raised it."""
    words = "".join(traceback.format_exception_only(type(error), error)).strip().splitlines()[-1]
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    if isinstance(error, SyntaxError) and error.filename:
        return f"{what} {words} ({error.filename}, line {error.lineno})"
    return f"{what} {words} ({own[-1].filename}, line {own[-1].lineno})" if own else f"{what} {words}"


def _is_ours(path: str) -> bool:
    return path == __file__ or path.startswith("<frozen importlib")

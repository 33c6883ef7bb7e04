"""JSON files that somebody else wrote, read strictly: what is wrong with one is a sentence with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autofit.domain.errors import UsageError

from .local_path import unreadable


class NotPlain(ValueError):
    """JSON in form, of which readers would take different things."""


def read_object(path: Path, name: str, then: str) -> dict[str, Any]:
    """The object in a file, which people know as `name`; UsageError, with `then` for what to do, where it is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8 text (byte {error.start + 1:,}): {then}.") from error
    try:
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_constant)
    except NotPlain as error:
        raise UsageError(f"{name} {error}: {then}.") from error
    except RecursionError as error:
        raise UsageError(f"{name} is nested too deep to be read: {then}.") from error
    except ValueError as error:
        raise UsageError(f"{name} is not JSON ({error}): {then}.") from error
    if not isinstance(found, dict):
        raise UsageError(f"{name} is not a JSON object: {then}.")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which a key may stand again only with the same value: readers take the last one in silence."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise NotPlain(f"says two things of '{key}'")
        found[key] = value
    return found


def _constant(word: str) -> float:
    if word == "NaN":
        raise NotPlain("holds NaN, which is no number")
    return float(word)  # an infinite bound means that there is none

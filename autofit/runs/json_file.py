"""Values in JSON files that say their schema, written so that a kill leaves the old file or the new one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from autofit.domain.codec import decode, encode, to_json
from autofit.domain.errors import UsageError
from autofit.process.files import OURS, write_whole

SCHEMA = 1
T = TypeVar("T")
AsToday = Callable[[dict[str, Any]], dict[str, Any]]


def write_text(path: Path, text: str, *, mode: int = OURS) -> None:
    """Puts `text` at `path` in one move, for good; the folder is made when it is missing.

    A run follows what it reads there again, so that by default nobody else may write it, whatever the umask allows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text, mode=mode, is_durable=True)


def with_schema(body: dict[str, Any]) -> dict[str, Any]:
    return {"schema": SCHEMA, **body}


def write_value(path: Path, value: object) -> None:
    """Writes a domain dataclass."""
    write_body(path, encode(value))


def write_body(path: Path, body: dict[str, Any]) -> None:
    write_text(path, to_json(with_schema(body), indent=2, ensure_ascii=False) + "\n")


def _as_it_is(body: dict[str, Any]) -> dict[str, Any]:
    return body


def read_value(path: Path, kind: type[T], flag: str, as_today: AsToday = _as_it_is) -> T | None:
    """The `kind` in `path`, None when there is no such file; UsageError when it holds something else, with `flag`
    for another folder. `as_today` says in today's words what an earlier version may have written."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise _unreadable(str(path), error, flag) from error
    return parse_value(text, kind, str(path), flag, as_today)


def read_body(path: Path, flag: str) -> dict[str, Any] | None:
    """What `write_body` wrote to `path`, None when there is no such file; UsageError as `read_value`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise _unreadable(str(path), error, flag) from error
    return _parse_body(text, str(path), flag)


def is_value_of(path: Path, kind: type[object]) -> bool:
    """Whether `path` is a file that `write_value` wrote of a `kind`, of any schema."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(body, dict) and "schema" in body and body.get("type") == kind.__name__


def parse_value(text: str, kind: type[T], where: str, flag: str, as_today: AsToday = _as_it_is) -> T:
    """The `kind` that `text` holds; `where` is named when it does not, and `flag` for another folder."""
    body = _parse_body(text, where, flag)
    try:
        return decode(kind, as_today(body))
    except ValueError as error:
        raise _unreadable(where, error, flag) from error


def _unreadable(where: str, error: Exception, flag: str) -> UsageError:
    return UsageError(f"{where} cannot be read ({error}).\nIt was changed or damaged: choose another {flag}.")


def _parse_body(text: str, where: str, flag: str) -> dict[str, Any]:
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(where, error, flag) from error
    _check_schema(body, where, flag)
    return cast(dict[str, Any], body)


def _check_schema(body: Any, where: str, flag: str) -> None:
    found = body.get("schema") if isinstance(body, dict) else None
    if found != SCHEMA:
        raise UsageError(
            f"{where} has schema {found}, this autofit reads schema {SCHEMA}.\n"
            f"Use the autofit that wrote it, or choose another {flag}."
        )

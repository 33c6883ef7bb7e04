"""Rows of JSON and CSV files read one by one with the line that each stands on: slow, exact, and clear about faults.

`datasets` reads the same files much faster, but names no line when it fails, guesses types (dates become timestamps)
and stumbles over columns that nobody needs.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from autofit.domain.errors import UsageError
from autofit.planning.data.chat_turns import json_type

from .source import Files
from .unpacked_file import unpacked

Located = tuple[str, Mapping[str, object]]  # the place as people read it, and the row


class _TwiceError(ValueError):
    """A JSON object has a key twice."""


def fault(where: str, what: str, then: str = "Fix it and run the command again") -> UsageError:
    """The error of a broken line; `then` is what to do."""
    return UsageError(f"{where}: {what}. Nothing was started. {then}.")


def located(files: Files) -> Iterator[Located]:
    """Each row with its place (`chats.jsonl, line 4,127`); UsageError at the first line that is broken."""
    for path in files.paths:
        yield from _csv_rows(path) if files.kind == "csv" else _json_rows(path)


def delimiter(header: str) -> str:
    """What separates a CSV file's columns: a spreadsheet may write semicolons or tabs."""
    return max(",;\t", key=header.count)


def read_header(path: Path) -> tuple[str, list[str]]:
    """The delimiter and the columns of a CSV file."""
    lines = (line for _, line in _lines(path))
    first = next(lines, "")
    separator = delimiter(first)
    columns = next(csv.reader([first], delimiter=separator), [])
    if not columns:
        raise fault(str(path), "empty")
    if twice := {column for column in columns if columns.count(column) > 1}:
        raise fault(f"{path}, line 1", f"names the column '{min(twice)}' twice")
    return separator, columns


def check_first_row(path: Path) -> None:
    """Checks the first row; UsageError if a CSV file's has not as many fields as its header.

    pandas would take surplus fields there for an index and shift every column, without a word.
    """
    next(_csv_rows(path), None)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with unpacked(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise fault(f"{path}, line {number:,}", f"not UTF-8 text (byte {error.start + 1})") from error


def _json_rows(path: Path) -> Iterator[Located]:
    if _is_one_value(path):
        for i, row in enumerate(_whole(path), start=1):
            yield f"{path}, row {i:,}", _object(f"{path}, row {i:,}", row)
        return
    for number, line in _lines(path):
        where = f"{path}, line {number:,}"
        if line.strip():
            yield where, _object(where, _parse(where, line.rstrip("\r\n")))


def _is_one_value(path: Path) -> bool:
    """Whether a file is an array, or one object over several lines, rather than a JSON object on each line."""
    first = next((line.strip() for _, line in _lines(path) if line.strip()), "")
    return first.startswith("[") or first == "{"


def _whole(path: Path) -> list[object]:
    rows = _parse(str(path), "".join(line for _, line in _lines(path)), is_many_lines=True)
    return rows if isinstance(rows, list) else [rows]


def _parse(where: str, source: str, is_many_lines: bool = False) -> object:
    try:
        return json.loads(source, object_pairs_hook=_without_twins)
    except _TwiceError as error:
        raise fault(where, str(error)) from error
    except RecursionError as error:
        raise fault(where, "nested too deep to be read") from error
    except json.JSONDecodeError as error:
        place = f"{where}, line {error.lineno:,}" if is_many_lines else where
        problem = error.msg[0].lower() + error.msg[1:].removesuffix(" at").removesuffix(" starting")
        raise fault(place, f"not JSON ({problem})") from error
    except ValueError as error:  # a number of thousands of digits
        raise fault(where, f"not JSON ({str(error).partition(';')[0]})") from error


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(f"has '{next(name for name in names if names.count(name) > 1)}' twice")
    return row


def _object(where: str, row: object) -> Mapping[str, object]:
    if not isinstance(row, dict):
        raise fault(where, f"{json_type(row)}, not an object with named columns")
    return row


def _csv_rows(path: Path) -> Iterator[Located]:
    separator, columns = read_header(path)
    reader = csv.reader((line for _, line in _lines(path)), delimiter=separator, strict=True)
    number = 1
    try:
        for i, fields in enumerate(reader):
            where = f"{path}, line {number:,}"
            number = reader.line_num + 1  # a quoted field may span lines
            if i and fields:
                yield where, _csv_row(where, columns, fields)
    except csv.Error as error:
        raise fault(f"{path}, line {number:,}", f"not CSV ({error})") from error


def _csv_row(where: str, columns: list[str], fields: list[str]) -> Mapping[str, object]:
    if len(fields) != len(columns):
        raise fault(where, f"the header names {len(columns)} columns, this line holds {len(fields)}")
    return {name: field or None for name, field in zip(columns, fields, strict=True)}  # an empty field is CSV's null

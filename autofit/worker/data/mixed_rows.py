"""Rows that are well each by itself, and have no one form together."""

from __future__ import annotations

from collections.abc import Iterable

from autofit.domain.errors import UsageError
from autofit.domain.task import Task
from autofit.planning.data.columns import Format
from autofit.planning.data.task_rows import format_of

from .located_rows import Located, fault


def mixture(task: Task, blamed: str, rows: Iterable[Located]) -> UsageError | None:
    """The error of rows of two forms, where the second begins elsewhere than in the row at `blamed`; None where a row
    has no form of its own before that, or all have one."""
    first: tuple[str, Format] | None = None
    for where, row in rows:
        own = format_of(task, tuple(column for column, value in row.items() if value is not None), row)
        if own is None:
            return None
        first = first or (where, own)
        if own is not first[1]:
            what = f"{own.value} data, and {first[0]} has {first[1].value} data; all rows need one form"
            return None if where == blamed else fault(where, what)
    return None

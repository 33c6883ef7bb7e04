"""Which kind of data a table holds for a task, by its columns, and its rows in the form of the task's trainer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from autofit.domain.errors import UsageError
from autofit.domain.task import Task

from .columns import WHAT_WORKS as SUPERVISED_COLUMNS
from .columns import Format, supervised_format, used_columns
from .example import to_example
from .judged import WHAT_WORKS as JUDGED_COLUMNS
from .judged import judged, judged_columns, judged_format
from .preferences import FORMATS as PREFERENCES
from .preferences import MARGIN, check_common_prompt, margin, preference, preference_columns, preference_format
from .preferences import WHAT_WORKS as PREFERENCE_COLUMNS
from .prompts import WHAT_WORKS as PROMPT_COLUMNS
from .prompts import prompt, prompt_columns, prompt_format

Row = Mapping[str, object]
Columns = Sequence[str]


def recognize(task: Task, columns: Columns, first_row: Row) -> Format:
    """The format of a table with these columns; UsageError names the columns, those that would work for the task, and
    the tasks for which these would do."""
    found = format_of(task, columns, first_row)
    if found is None:
        raise UsageError(_refusal(task, columns, first_row))
    return found


def format_of(task: Task, columns: Columns, first_row: Row) -> Format | None:
    """The format of a table with these columns; None where they do not do for the task."""
    return _ROWS[task].format(columns, first_row)


def columns_of(task: Task, data_format: Format, columns: Columns) -> tuple[str, ...]:
    """The columns of the table that `example_of` reads."""
    return _ROWS[task].columns(data_format, columns)


def example_of(task: Task, data_format: Format, row: Row) -> dict[str, object]:
    """Brings a row into the form of the task's trainer; BadRow names the wrong field."""
    return _ROWS[task].example(data_format, row)


def _refusal(task: Task, columns: Columns, first_row: Row) -> str:
    flag = "" if task is Task.SFT else f" with --task {task.value}"
    first = f"cannot train on the columns {', '.join(columns)}{flag}."
    others = [f"--task {other.value}" for other, rows in _ROWS.items() if rows.format(columns, first_row) is not None]
    hint = f"\nThese columns would do for {' or '.join(others)}." if others else ""
    return f"{first}\nColumns that work: {_ROWS[task].what_works}.{hint}"


def _scored_columns(data_format: Format, columns: Columns) -> tuple[str, ...]:
    margins = (MARGIN,) if MARGIN in columns else ()
    return (*preference_columns(data_format, columns), *margins)


def _scored(data_format: Format, row: Row) -> dict[str, object]:
    """A pair, with how much better the one is where that is known."""
    pair = preference(data_format, row)
    return {**pair, MARGIN: margin(row[MARGIN])} if MARGIN in row else pair


def _paired(data_format: Format, row: Row) -> dict[str, object]:
    """A pair of answers to one prompt."""
    pair = preference(data_format, row)
    if "prompt" not in pair:
        check_common_prompt(pair)
    return pair


def _judged_format(columns: Columns, first_row: Row) -> Format | None:
    """Answers that are judged one by one, or pairs, which trl takes apart."""
    return judged_format(columns, first_row) or preference_format(columns, first_row)


def _judged_columns(data_format: Format, columns: Columns) -> tuple[str, ...]:
    is_paired = data_format in PREFERENCES
    return preference_columns(data_format, columns) if is_paired else judged_columns(data_format, columns)


def _judged(data_format: Format, row: Row) -> dict[str, object]:
    return _paired(data_format, row) if data_format in PREFERENCES else judged(data_format, row)


@dataclass(frozen=True)
class _Rows:
    """The rows of a task: which table has them, which of its columns `example` reads, and what it makes of a row."""

    what_works: str
    format: Callable[[Columns, Row], Format | None]
    columns: Callable[[Format, Columns], tuple[str, ...]]
    example: Callable[[Format, Row], dict[str, object]]


_ROWS = {
    Task.SFT: _Rows(SUPERVISED_COLUMNS, supervised_format, used_columns, to_example),
    Task.REWARD: _Rows(PREFERENCE_COLUMNS, preference_format, _scored_columns, _scored),
    Task.DPO: _Rows(PREFERENCE_COLUMNS, preference_format, preference_columns, _paired),
    Task.KTO: _Rows(JUDGED_COLUMNS, _judged_format, _judged_columns, _judged),
    Task.GRPO: _Rows(PROMPT_COLUMNS, prompt_format, lambda _, columns: prompt_columns(columns), prompt),
}

"""Which kind of data a table holds for a task, by its columns, and its rows in the form of the task's trainer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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

_WHAT_WORKS = {
    Task.SFT: SUPERVISED_COLUMNS,
    Task.REWARD: PREFERENCE_COLUMNS,
    Task.DPO: PREFERENCE_COLUMNS,
    Task.KTO: JUDGED_COLUMNS,
    Task.GRPO: PROMPT_COLUMNS,
}


def recognize(task: Task, columns: Sequence[str], first_row: Mapping[str, object]) -> Format:
    """The format of a table with these columns; UsageError names the columns, those that would work for the task, and
    the tasks for which these would do."""
    found = _format(task, columns, first_row)
    if found is None:
        raise UsageError(_refusal(task, columns, first_row))
    return found


def _format(task: Task, columns: Sequence[str], first_row: Mapping[str, object]) -> Format | None:
    if task is Task.SFT:
        return supervised_format(columns, first_row)
    if task is Task.GRPO:
        return prompt_format(columns, first_row)
    if task is Task.KTO:
        return judged_format(columns, first_row) or preference_format(columns, first_row)
    return preference_format(columns, first_row)


def columns_of(task: Task, data_format: Format, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of the table that `example_of` reads."""
    if task is Task.SFT:
        return used_columns(data_format, columns)
    if task is Task.GRPO:
        return prompt_columns(columns)
    if data_format not in PREFERENCES:
        return judged_columns(data_format, columns)
    has_margin = task is Task.REWARD and MARGIN in columns
    return (*preference_columns(data_format, columns), *((MARGIN,) if has_margin else ()))


def example_of(task: Task, data_format: Format, row: Mapping[str, object]) -> dict[str, object]:
    """Brings a row into the form of the task's trainer; BadRow names the wrong field."""
    if task is Task.SFT:
        return to_example(data_format, row)
    if task is Task.GRPO:
        return prompt(data_format, row)
    if data_format not in PREFERENCES:
        return judged(data_format, row)
    example = preference(data_format, row)
    if task is not Task.REWARD:
        if "prompt" not in example:
            check_common_prompt(example)
        return example
    return {**example, MARGIN: margin(row[MARGIN])} if MARGIN in row else example


def _refusal(task: Task, columns: Sequence[str], first_row: Mapping[str, object]) -> str:
    flag = "" if task is Task.SFT else f" with --task {task.value}"
    first = f"cannot train on the columns {', '.join(columns)}{flag}."
    others = [f"--task {other.value}" for other in Task if _format(other, columns, first_row) is not None]
    hint = f"\nThese columns would do for {' or '.join(others)}." if others else ""
    return f"{first}\nColumns that work: {_WHAT_WORKS[task]}.{hint}"

"""The first rows of a source, checked without reading the rest."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet

from autofit.domain.errors import UsageError
from autofit.domain.task import Task
from autofit.planning.data.chat_turns import BadRow
from autofit.planning.data.columns import context_columns, with_context
from autofit.planning.data.task_rows import columns_of, example_of, recognize

from .located_rows import Located, fault, located
from .mixed_rows import mixture
from .raw_table import first_of_hub, reading_parquet, with_rows
from .source import Files, Source, resolve

_FIRST_ROWS = 100


def check_first_rows(source: str, task: Task) -> None:
    """Checks that the first rows of a source can be trained on; UsageError with the place of the first that cannot."""
    rows = list(itertools.islice(_rows(source, resolve(source, task)), _FIRST_ROWS))
    if not rows:
        raise fault(source, "empty")
    columns = tuple({column: None for _, row in rows for column in row})
    try:
        data_format = recognize(task, columns, rows[0][1])
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error
    context = context_columns(columns)
    if any(row.get(name) not in (None, "", [], "[]") for _, row in rows for name in context):
        data_format = with_context(data_format)
    used = columns_of(task, data_format, columns)
    for where, row in rows:
        try:
            example_of(task, data_format, {name: row.get(name) for name in used})
        except BadRow as error:
            raise mixture(task, where, rows) or fault(where, str(error)) from error


def _rows(source: str, place: Source) -> Iterator[Located]:
    if not isinstance(place, Files):
        return ((f"{source}: row {number}", row) for number, row in enumerate(first_of_hub(place, _FIRST_ROWS), 1))
    if place.kind == "parquet":
        return itertools.chain.from_iterable(map(_parquet_rows, with_rows(place)))
    return located(place)


def _parquet_rows(path: Path) -> Iterator[Located]:
    with reading_parquet(path), pyarrow.parquet.ParquetFile(path) as file:
        batch = next(file.iter_batches(_FIRST_ROWS))
        yield from ((f"{path}: row {number}", row) for number, row in enumerate(batch.to_pylist(), 1))

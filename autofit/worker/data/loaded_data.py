"""The training data: found, recognized, checked and brought into few columns."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import datasets

from autofit import __version__
from autofit.domain.errors import UsageError
from autofit.domain.task import Task
from autofit.planning.data.chat_turns import BadRow
from autofit.planning.data.columns import Format, context_columns, with_context
from autofit.planning.data.task_rows import columns_of, example_of, recognize

from .features import features_of, inferred
from .kept import kept_in_file
from .located_rows import Located, fault, located
from .mixed_rows import mixture
from .raw_table import Unreadable, read_files, read_hub
from .row_columns import column
from .row_processes import process_count
from .source import Files, HubDataset, Source, resolve


@dataclass(frozen=True)
class LoadedData:
    """All rows of a source, in its order, with the columns that `example_of` gives.

    `notes` says what of the source is left out.
    """

    dataset: datasets.Dataset
    data_format: Format
    source: str
    place: Source
    notes: tuple[str, ...] = ()

    def where(self, index: int) -> str:
        """The place of the row of this index, as people read it: `chats.jsonl, line 4,127`."""
        if isinstance(self.place, Files) and self.place.kind != "parquet":
            return next(itertools.islice(located(self.place), index, None))[0]
        return f"{self.source}: row {index + 1:,}"

    def spread(self, row_count: int) -> LoadedData:
        """So many of the rows, evenly over the source; all of them where they are no more. `where` is not of these."""
        total = len(self.dataset)
        if total <= row_count:
            return self
        return replace(self, dataset=self.dataset.select([i * total // row_count for i in range(row_count)]))


@dataclass(frozen=True)
class _Converted:
    examples: datasets.Dataset
    data_format: Format
    columns: tuple[str, ...]  # all of the source's
    used: tuple[str, ...]


def load(source: str | None, task: Task = Task.SFT, *, as_chats: bool = False, most_processes: int = 1) -> LoadedData:
    """The data that `source` names, in the form of the task's trainer; None is the task's sample that ships.

    `source` is a .json, .jsonl, .csv or .parquet file, a folder or a glob of such, or a hub id (`name` or
    `name:config`, its split `train`). `as_chats`: texts become turns even if no row says what came before it. So many
    processes at most make the rows.
    UsageError names the file, and the line or row, that cannot be used.
    """
    name, place = source or "the sample that ships", resolve(source, task)
    reader = _Reader(name, task, as_chats, most_processes)
    converted = reader.read_files(place) if isinstance(place, Files) else reader.read_hub(place)
    return LoadedData(converted.examples, converted.data_format, name, place, _notes(place, converted))


def split_eval(
    dataset: datasets.Dataset, fraction: float, seed: int
) -> tuple[datasets.Dataset, datasets.Dataset | None]:
    """Training and evaluation rows, the latter at least one and chosen by `seed`; None for a fraction of 0."""
    if not 0 <= fraction < 1:
        raise UsageError(f"the evaluation's share of the data is {fraction:g}; it must be from 0 to less than 1.")
    if fraction == 0:
        return dataset, None
    eval_count = max(1, round(len(dataset) * fraction))
    if eval_count >= len(dataset):
        raise UsageError(f"{len(dataset)} examples are too few to keep {fraction:.0%} of them for evaluation.")
    parts = dataset.train_test_split(test_size=eval_count, seed=seed)
    return parts["train"], parts["test"]


@dataclass(frozen=True)
class _Reader:
    """Reads one source, `name` as people know it, for a task."""

    name: str
    task: Task
    as_chats: bool
    most_processes: int

    def read_files(self, files: Files) -> _Converted:
        """Converts through `datasets`, which is fast; row by row when it fails, to name the line or to do without its
        guesses."""
        try:
            table = read_files(files)
        except Unreadable:
            return self._convert_slowly(files)
        try:
            return self._convert(table)
        except (BadRow, UnicodeDecodeError) as error:  # Arrow takes any bytes for text, Python does not
            if files.kind == "parquet":
                raise fault(self.name, str(error)) from error
            return self._convert_slowly(files)

    def read_hub(self, hub: HubDataset) -> _Converted:
        try:
            return self._convert(read_hub(hub))
        except BadRow as error:
            raise fault(self.name, str(error)) from error

    def _convert(self, table: datasets.Dataset) -> _Converted:
        """Converts the rows of a table; BadRow counts them from 1."""
        columns = tuple(table.column_names)
        if len(table) == 0:
            raise fault(self.name, "empty")
        data_format = self._format(columns, table[0], lambda context: table.select_columns(list(context)))
        used = columns_of(self.task, data_format, columns)
        chosen = table.select_columns(list(used))
        example = _numbered(chosen[0], 0, self.task, data_format)
        # The version is there for the cache's key: what it holds was written by this one's code.
        arguments = {"task": self.task, "data_format": data_format, "version": __version__}
        examples = chosen.map(
            _numbered,
            with_indices=True,
            fn_kwargs=arguments,
            features=features_of(self.task, data_format, example, table.features),
            remove_columns=chosen.column_names,
            num_proc=process_count(len(chosen), self.most_processes),
        )
        return _Converted(examples, data_format, columns, used)

    def _convert_slowly(self, files: Files) -> _Converted:
        """Converts in memory, and only the columns that training needs; UsageError at the first line that is broken."""
        rows = list(located(files))
        if not rows:
            raise fault(self.name, "empty")
        columns = tuple({column: None for _, row in rows for column in row})
        data_format = self._format(
            columns, rows[0][1], lambda context: [{column: row.get(column) for column in context} for _, row in rows]
        )
        used = columns_of(self.task, data_format, columns)
        chosen = [(where, {name: row.get(name) for name in used}) for where, row in rows]
        examples = [self._checked(where, row, data_format, rows) for where, row in chosen]
        features = features_of(self.task, data_format, examples[0], inferred(self.task, examples))
        return _Converted(
            kept_in_file(datasets.Dataset.from_list(examples, features=features)), data_format, columns, used
        )

    def _checked(
        self, where: str, row: Mapping[str, object], data_format: Format, rows: Sequence[Located]
    ) -> dict[str, object]:
        """The example that a row is; UsageError where it is none, which may be another's fault among all `rows`."""
        try:
            return example_of(self.task, data_format, row)
        except BadRow as error:
            raise mixture(self.task, where, rows) or fault(where, str(error)) from error

    def _format(
        self,
        columns: Sequence[str],
        first_row: Mapping[str, object],
        rows_of: Callable[[Sequence[str]], Iterable[Mapping[str, object]]],
    ) -> Format:
        """The format of the source; `rows_of` gives some columns of all rows."""
        try:
            data_format = recognize(self.task, columns, first_row)
        except UsageError as error:
            raise UsageError(f"{self.name}: {error}") from error
        context = context_columns(columns)
        is_chat = self.as_chats or (context and _has_context(rows_of(context)))
        return with_context(data_format) if is_chat else data_format


def _numbered(
    row: Mapping[str, object], index: int, task: Task, data_format: Format, version: str = __version__
) -> dict[str, object]:
    try:
        return example_of(task, data_format, row)
    except BadRow as error:
        raise BadRow(f"row {index + 1:,}: {error}") from error


def _has_context(rows: Iterable[Mapping[str, object]]) -> bool:
    """Whether any row says what came before it; files in such a layout often leave it empty throughout."""
    return any(any(value not in (None, "", [], "[]") for value in row.values()) for row in rows)


def _notes(place: Source, converted: _Converted) -> tuple[str, ...]:
    """One sentence for each thing of the source that training does not see."""
    idle = [column for column in converted.columns if column not in converted.used]
    columns = (f"columns not used: {', '.join(idle)}",) if idle else ()
    return (*(place.notes if isinstance(place, Files) else ()), *columns, *_unheard(converted.examples))


def _unheard(examples: datasets.Dataset) -> tuple[str, ...]:
    said = first_rows(column(examples, "unheard").to_pylist()) if "unheard" in examples.column_names else ""
    return (f"not heard of the turns: {said}",) if said else ()


def first_rows(words: Iterable[Sequence[str]]) -> str:
    """What rows say unheard, each word with the first of the rows: `reasoning (first in row 3), system turns (first in
    row 1)`."""
    first: dict[str, int] = {}
    for number, said in enumerate(words, start=1):
        for word in said:
            first.setdefault(word, number)
    return ", ".join(f"{word} (first in row {number:,})" for word, number in sorted(first.items()))

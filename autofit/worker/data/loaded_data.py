"""The training data: found, recognized, checked and brought into few columns."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import datasets

from autofit import __version__
from autofit.domain.errors import UsageError
from autofit.planning.data.chat_turns import BadRow
from autofit.planning.data.columns import Format, context_columns, recognize, used_columns, with_context
from autofit.planning.data.example import to_example

from .located_rows import fault, located
from .raw_table import Unreadable, read_files, read_hub
from .source import Files, HubDataset, Source, resolve

_TEXT, _TOKENS = datasets.Value("string"), datasets.List(datasets.Value("int64"))
_FEATURES = {
    "text": _TEXT, "prompt": _TEXT, "completion": _TEXT,
    "messages": datasets.List(
        {"role": _TEXT, "content": _TEXT, "reasoning": _TEXT, "is_learned": datasets.Value("bool")}
    ),
    "unheard": datasets.List(_TEXT),
    "input_ids": _TOKENS, "labels": _TOKENS,
}  # fmt: skip


@dataclass(frozen=True)
class LoadedData:
    """All rows of a source, in its order, with the columns that `to_example` gives.

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


@dataclass(frozen=True)
class _Converted:
    examples: datasets.Dataset
    data_format: Format
    columns: tuple[str, ...]  # all of the source's


def load(source: str | None, *, as_chats: bool = False) -> LoadedData:
    """The data that `source` names; None is the sample that ships.

    `source` is a .json, .jsonl, .csv or .parquet file, a folder or a glob of such, or a hub id (`name` or
    `name:config`, its split `train`). `as_chats`: pairs become turns even if no row says what came before it.
    UsageError names the file, and the line or row, that cannot be used.
    """
    name, place = source or "the sample that ships", resolve(source)
    if isinstance(place, Files):
        converted = _convert_files(name, place, as_chats)
    else:
        converted = _convert_hub(name, place, as_chats)
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


def _convert_files(name: str, files: Files, as_chats: bool) -> _Converted:
    """Converts through `datasets`, which is fast; row by row when it fails, to name the line or to do without its
    guesses."""
    try:
        table = read_files(files)
    except Unreadable:
        return _convert_slowly(name, files, as_chats)
    try:
        return _convert(name, table, as_chats)
    except (BadRow, UnicodeDecodeError) as error:  # Arrow takes any bytes for text, Python does not
        if files.kind == "parquet":
            raise fault(name, str(error)) from error
        return _convert_slowly(name, files, as_chats)


def _convert_hub(name: str, hub: HubDataset, as_chats: bool) -> _Converted:
    try:
        return _convert(name, read_hub(hub), as_chats)
    except BadRow as error:
        raise fault(name, str(error)) from error


def _convert(name: str, table: datasets.Dataset, as_chats: bool) -> _Converted:
    """Converts the rows of a table; BadRow counts them from 1."""
    columns = tuple(table.column_names)
    if len(table) == 0:
        raise fault(name, "empty")
    data_format = _recognize(name, columns, table[0])
    context = context_columns(columns)
    if as_chats or (context and _has_context(table.select_columns(list(context)))):
        data_format = with_context(data_format)
    used = table.select_columns(list(used_columns(data_format, columns)))
    features = _features(_numbered(used[0], 0, data_format))
    # The version is there for the cache's key: what it holds was written by this one's code.
    arguments = {"data_format": data_format, "version": __version__}
    examples = used.map(
        _numbered, with_indices=True, fn_kwargs=arguments, features=features, remove_columns=used.column_names
    )
    return _Converted(examples, data_format, columns)


def _numbered(
    row: Mapping[str, object], index: int, data_format: Format, version: str = __version__
) -> dict[str, object]:
    try:
        return to_example(data_format, row)
    except BadRow as error:
        raise BadRow(f"row {index + 1:,}: {error}") from error


def _convert_slowly(name: str, files: Files, as_chats: bool) -> _Converted:
    """Converts in memory, and only the columns that training needs; UsageError at the first line that is broken."""
    rows = list(located(files))
    if not rows:
        raise fault(name, "empty")
    columns = tuple({column: None for _, row in rows for column in row})
    data_format = _recognize(name, columns, rows[0][1])
    context = context_columns(columns)
    if as_chats or _has_context({column: row.get(column) for column in context} for _, row in rows):
        data_format = with_context(data_format)
    used = used_columns(data_format, columns)
    examples = [_checked(where, {column: row.get(column) for column in used}, data_format) for where, row in rows]
    return _Converted(datasets.Dataset.from_list(examples, features=_features(examples[0])), data_format, columns)


def _checked(where: str, row: Mapping[str, object], data_format: Format) -> dict[str, object]:
    try:
        return to_example(data_format, row)
    except BadRow as error:
        raise fault(where, str(error)) from error


def _recognize(name: str, columns: Sequence[str], first_row: Mapping[str, object]) -> Format:
    try:
        return recognize(columns, first_row)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error


def _has_context(rows: Iterable[Mapping[str, object]]) -> bool:
    """Whether any row says what came before it; files in such a layout often leave it empty throughout."""
    return any(any(value not in (None, "", [], "[]") for value in row.values()) for row in rows)


def _features(example: Mapping[str, object]) -> datasets.Features:
    return datasets.Features({column: _FEATURES[column] for column in example})


def _notes(place: Source, converted: _Converted) -> tuple[str, ...]:
    """One sentence for each thing of the source that training does not see."""
    used = used_columns(converted.data_format, converted.columns)
    idle = [column for column in converted.columns if column not in used]
    columns = (f"columns not used: {', '.join(idle)}",) if idle else ()
    return (*(place.notes if isinstance(place, Files) else ()), *columns, *_unheard(converted.examples))


def _unheard(examples: datasets.Dataset) -> tuple[str, ...]:
    said = first_rows(examples["unheard"]) if "unheard" in examples.column_names else ""
    return (f"not heard of the turns: {said}",) if said else ()


def first_rows(words: Iterable[Sequence[str]]) -> str:
    """What rows say unheard, each word with the first of the rows: `reasoning (first in row 3), system turns (first in
    row 1)`."""
    first: dict[str, int] = {}
    for number, said in enumerate(words, start=1):
        for word in said:
            first.setdefault(word, number)
    return ", ".join(f"{word} (first in row {number:,})" for word, number in sorted(first.items()))

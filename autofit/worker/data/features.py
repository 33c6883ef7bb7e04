"""The types of the columns of examples, as Arrow has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import datasets

from autofit.domain.task import Task
from autofit.planning.data.columns import Format

_TEXT, _TOKENS, _BOOL = datasets.Value("string"), datasets.List(datasets.Value("int64")), datasets.Value("bool")
_TURN = {"role": _TEXT, "content": _TEXT}
_SUPERVISED = {
    "text": _TEXT, "prompt": _TEXT, "completion": _TEXT,
    "messages": datasets.List({**_TURN, "reasoning": _TEXT, "is_learned": _BOOL}),
    "unheard": datasets.List(_TEXT),
    "input_ids": _TOKENS, "labels": _TOKENS,
}  # fmt: skip
_ANSWERS = ("prompt", "completion", "chosen", "rejected")
_BESIDE = {"label": _BOOL, "margin": datasets.Value("float64"), "unheard": datasets.List(_TEXT)}


def features_of(
    task: Task, data_format: Format, example: Mapping[str, object], source: Mapping[str, object]
) -> datasets.Features:
    """The types of an example's columns; `source` has those of the columns that are handed on as they are."""
    if task is Task.SFT:
        return datasets.Features({name: _SUPERVISED[name] for name in example})
    answer = datasets.List(_TURN) if data_format.is_conversational else _TEXT
    ours = {**dict.fromkeys(_ANSWERS, answer), **_BESIDE}
    if task.traits.generates:
        ours = {name: ours[name] for name in ("prompt", "unheard")}
    return datasets.Features({name: ours[name] if name in ours else source[name] for name in example})


def inferred(task: Task, examples: Sequence[Mapping[str, object]]) -> Mapping[str, object]:
    """The types of columns that are handed on as they are, by their values."""
    if not task.traits.generates:
        return {}
    return {column: _inferred([row[column] for row in examples]) for column in examples[0]}


def _inferred(values: list[object]) -> object:
    try:
        return datasets.Dataset.from_dict({"values": values}).features["values"]
    except (TypeError, ValueError):  # of Arrow, over values of several types
        return datasets.Json()

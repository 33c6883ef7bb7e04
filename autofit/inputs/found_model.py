"""A model as it was found: what to load, and its shape by its config.json and the headers of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autofit.domain.knobs.quantization import Quantization
from autofit.domain.model import ModelShape

from .download import Download
from .json_text import read_object
from .model_config import check_kind, quantization_method, read_shape, stored_quantization
from .packed_weights import packing
from .scoring_head import score_count
from .weights import Tensor, count_parameters


@dataclass(frozen=True)
class ModelFiles:
    path_or_id: str  # what to load: differs from what was asked for where a note says so
    shape: ModelShape | None  # at first sight; None where config.json leaves sizes to the model's class
    notes: tuple[str, ...] = ()
    stored: Quantization | None = None  # what its weights are stored in, where they are trained on as they are
    score_count: int | None = None  # numbers that its head gives for a text; None: it has another head
    download: Download | None = None  # what a training needs before its full run; None where nothing is to be had


def describe(path_or_id: str, config: dict[str, Any], tensors: tuple[Tensor, ...] | None) -> ModelFiles:
    """The model by its config and the headers of its weights, None where they have none."""
    check_kind(path_or_id, config)
    if quantization_method(config) is not None:  # several weights share one stored number
        tensors = None
    is_tied = config.get("tie_word_embeddings") is True
    counted = None if tensors is None else count_parameters(tensors, is_tied=is_tied)
    return ModelFiles(
        path_or_id,
        read_shape(path_or_id, config, counted),
        stored=stored_quantization(config),
        score_count=score_count(config),
        notes=tuple(_notes(path_or_id, config)),
    )


def _notes(model: str, config: dict[str, Any]) -> Iterator[str]:
    if (packed := packing(config)) is not None:
        yield (
            f"{model} is stored in {packed.text}: its weights are made plain while they are loaded, and take what "
            "plain ones do; --quantize nf4 keeps them in 4 bits, rounded once more."
        )


def read_config(model: str, path: Path) -> dict[str, Any]:
    """The config.json at `path`; UsageError where it is none."""
    return read_object(path, f"The config.json of {model}", "download it again")

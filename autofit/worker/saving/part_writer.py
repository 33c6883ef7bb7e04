"""The parts of a model's state on their way into the files, one at a time and by all ranks together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from transformers.core_model_loading import revert_weight_conversion

from .partition import gathered, is_divided, own_slice
from .ranks import attempt, rank_index
from .shards import OpenShards
from .stored_state import Converted, Part, Unchanged


class PartWriter:
    """Writes parts of `model` into `shards`: each rank its slices where `is_shared`, else the first rank all of it.

    `shards` is None on a rank that writes nothing. What is not divided the first rank writes, and what transformers
    must convert: its tensors are gathered for that, on all ranks.
    """

    def __init__(self, model: torch.nn.Module, shards: OpenShards | None, *, is_shared: bool) -> None:
        self._model = model
        self._shards = shards
        self._is_shared = is_shared

    def write(self, parts: Iterable[Part], beat: Callable[[], None]) -> Exception | None:
        """Writes them and gives the first problem of this rank, which goes on gathering with the others after it.

        `beat` is called before each.
        """
        problem = None
        for part in parts:
            beat()
            with gathered(self._wanted_whole(part)):
                problem = problem or attempt(lambda part=part: self._write(part))  # type: ignore[misc]
        return problem

    def _wanted_whole(self, part: Part) -> list[torch.Tensor]:
        match part:
            case Unchanged():
                return [] if self._is_shared else [part.tensor]
            case Converted():
                return list(part.tensors.values())

    def _write(self, part: Part) -> None:
        if self._shards is None:
            return
        match part:
            case Unchanged(tensor) if self._is_shared and is_divided(tensor):
                own = own_slice(tensor)
                self._shards.write(part.stored, own.elements, own.first)
            case _ if rank_index() == 0:
                for name, tensor in _stored(self._model, part).items():
                    self._shards.write(name, tensor.detach().contiguous().view(-1))


def _stored(model: torch.nn.Module, part: Part) -> dict[str, torch.Tensor]:
    """The tensors that are stored of a part which this rank holds whole."""
    match part:
        case Unchanged():
            return {part.stored: part.tensor}
        case Converted():
            return dict(revert_weight_conversion(model, dict(part.tensors)))

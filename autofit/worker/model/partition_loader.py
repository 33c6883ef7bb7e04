"""Fills the partitions of ZeRO-3 from a checkpoint: a rank reads what it keeps, and nothing is communicated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import logging

from .checkpoint_tensors import StoredTensor, in_memory
from .loading_bar import BAR
from .weight_sources import Source, grouped, whole_shape

_IS_LOADED = "_is_hf_initialized"
"""An attribute of a tensor or a module that transformers does not initialize any more."""

AreEqual = Callable[[torch.Tensor, torch.Tensor], bool]


class PartitionLoader:
    """Loads one model. Its methods stand in for functions of transformers' modeling_utils, by the names they have
    there, while `from_pretrained` runs."""

    def __init__(self, are_equal: AreEqual) -> None:
        self._are_equal = are_equal  # transformers' _tied_params_are_equal
        self._tied: dict[int, Source] = {}  # by the identity of their parameter

    def load(
        self, model_to_load: PreTrainedModel, state_dict: Mapping[str, Any], load_config: Any = None
    ) -> tuple[list[str], set[str]]:
        """Stands in for `_load_state_dict_into_zero3_model`: the sentences about what does not fit, and the names that
        the checkpoint lacks. Both are the same on all ranks, since each of them looks at all shapes."""
        conversions = getattr(load_config, "weight_mapping", None) or []
        stored = {
            name: value if isinstance(value, StoredTensor) else in_memory(value) for name, value in state_dict.items()
        }
        groups = grouped(model_to_load, stored, conversions)
        model_to_load._weight_conversions = [one for one in conversions if one.was_used()]  # reverted by a save
        places = _Places(model_to_load)
        errors: list[str] = []
        missing = set(model_to_load.state_dict())
        for group in logging.tqdm(groups, desc=BAR):
            for name, source in group.sources(model_to_load):
                missing.discard(name)
                errors += self._place(places, name, source)
        mark_loaded(model_to_load)
        return errors, missing

    def _place(self, places: _Places, name: str, source: Source) -> list[str]:
        tensor = places.tensors.get(name)
        if tensor is None:
            return []
        setattr(tensor, _IS_LOADED, True)
        if source.shape != whole_shape(tensor):
            return [_mismatch(name, source.shape, whole_shape(tensor))]
        if name in places.tied:
            self._tied[id(tensor)] = source
        fill_parameter(tensor, source)
        return []

    def are_equal(self, source: torch.Tensor, target: torch.Tensor) -> bool:
        """Stands in for `_tied_params_are_equal`, which sees nothing of two parameters that are divided: compares what
        the checkpoint has for them."""
        one, other = self._tied.get(id(source)), self._tied.get(id(target))
        if one is None or other is None:
            return self._are_equal(source, target)
        return one.shape == other.shape and torch.equal(one.whole(), other.whole())


class _Places:
    """A model's parameters and buffers by all of their names, and the names of those that may be tied."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.tensors: dict[str, Any] = dict(model.named_buffers(remove_duplicate=False))
        self.tensors |= dict(model.named_parameters(remove_duplicate=False))
        tied: Mapping[str, str] = getattr(model, "all_tied_weights_keys", {})
        self.tied = {*tied.keys(), *tied.values()}


@torch.no_grad()
def fill_parameter(tensor: Any, source: Source) -> None:
    """Copies the values into a buffer, a whole parameter, or this rank's partition of a divided one."""
    partition = getattr(tensor, "ds_tensor", None)
    if partition is None:
        tensor.copy_(source.whole())
        return
    _fill(partition, partition.ds_numel * tensor.ds_zero_partition_rank, source)
    if tensor.ds_status.name == "AVAILABLE":  # whole on every rank, besides
        tensor.data.copy_(source.whole())


def _fill(partition: torch.Tensor, start: int, source: Source) -> None:
    """Copies the elements of `source` from the number `start` on; the last rank's partition may be longer."""
    position = 0
    for piece in source.pieces:
        first = max(start, position)
        last = min(start + partition.numel(), position + piece.element_count)
        if first < last:
            values = piece.read().reshape(-1)[first - position : last - position]
            partition[first - start : last - start].copy_(values)
        position += piece.element_count


def mark_loaded(model: PreTrainedModel) -> None:
    """Has transformers leave modules alone whose tensors are all loaded: what it initializes after this it would only
    look at, and some of its classes look at shapes, which ZeRO-3 has emptied."""
    for module in model.modules():
        if all(getattr(each, _IS_LOADED, False) for each in (*module.parameters(), *module.buffers())):
            setattr(module, _IS_LOADED, True)


def _mismatch(name: str, stored: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    return f"size mismatch for {name}: the checkpoint has {list(stored)}, the model {list(wanted)}."

"""Marks of a decoder's layers: equal for layers that do, keep and train the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from torch import nn
from transformers import PretrainedConfig

Place = tuple[str, str]  # a module's name within its layer, and a setting of it


def layer_marks(layers: Sequence[nn.Module], config: PretrainedConfig) -> list[Hashable]:
    """The mark of each layer: its classes, settings and parameters, what the configuration lists for it, and its place.

    The first layer has a mark of its own, for nothing may be trained below it, and the last one, which ends at the
    loss. Below the first layer that is trained there is no backward pass.
    """
    numbering, uses = _numbering(layers), _uses(layers)
    trained = (i for i, layer in enumerate(layers) if any(one.requires_grad for one in layer.parameters()))
    first_trained = next(trained, len(layers))
    return [
        (
            (index == 0, index == len(layers) - 1, min(max(index - first_trained, -1), 1)),
            tuple((name, type(module)) for name, module in layer.named_modules()),
            tuple((place, _setting(value)) for place, value in _settings(layer) if place not in numbering),
            _parameters(layer, index, uses),
            _listed(config, index, len(layers)),
        )
        for index, layer in enumerate(layers)
    ]


def _numbering(layers: Sequence[nn.Module]) -> set[Place]:
    """The settings that number the layers, such as `layer_idx`: they grow as the layers do."""
    offsets: dict[Place, set[int | None]] = defaultdict(set)
    for index, layer in enumerate(layers):
        for place, value in _settings(layer):
            offsets[place].add(value - index if type(value) is int else None)
    return {place for place, found in offsets.items() if len(found) == 1 and None not in found}


def _settings(layer: nn.Module) -> Iterator[tuple[Place, Any]]:
    plain = (int, float, str, bool, type(None))
    for name, module in layer.named_modules():
        for setting, value in vars(module).items():
            if type(value) in plain:
                yield (name, setting), value


def _setting(value: Any) -> Any:
    """A setting as far as it matters. A factor does not, but whether there is one: a dropout of 0 keeps no mask."""
    return value != 0 if isinstance(value, float) else value


def _uses(layers: Sequence[nn.Module]) -> dict[int, list[int]]:
    """The layers of each parameter, by its id: one that layers share has several."""
    uses: dict[int, list[int]] = defaultdict(list)
    for index, layer in enumerate(layers):
        for parameter in layer.parameters():
            uses[id(parameter)].append(index)
    return uses


def _parameters(layer: nn.Module, index: int, uses: dict[int, list[int]]) -> tuple[Any, ...]:
    """The parameters of a layer. The gradient of a shared one is complete at the first of its layers, and begins at the
    last."""
    marks = []
    for name, parameter in layer.named_parameters():
        layers = uses[id(parameter)]
        is_shared = (layers[0] < index, layers[-1] > index)
        marks.append((name, parameter.shape, parameter.dtype, parameter.requires_grad, is_shared))
    return tuple(marks)


def _listed(config: PretrainedConfig, index: int, count: int) -> tuple[str, ...]:
    """What the configuration lists for the layer. Numbers that grow are layers of a kind, which their classes tell."""
    values = vars(config.get_text_config()).values()
    lists = [value for value in values if isinstance(value, (list, tuple)) and len(value) >= count]
    return tuple(str(value[index]) for value in lists if not _grows(value))


def _grows(values: Sequence[Any]) -> bool:
    return all(type(value) is int for value in values) and all(one < other for one, other in pairwise(values))

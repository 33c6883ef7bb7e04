"""Tracing a few layers for many: decoder layers repeat, and so does what they hold."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn
from transformers import PretrainedConfig

from autofit.domain.outcome import Phase
from autofit.worker.trace.ledger import Section


@dataclass(frozen=True)
class Depth:
    """The depth of a trace: `traced` layers stand for `traced + period * left_out`: each period after the second one
    repeats it."""

    traced: int
    period: int
    left_out: int  # whole periods

    def repeated(self) -> range:
        """The traced layers that stand for those left out as well."""
        return range(1 + self.period, 1 + 2 * self.period) if self.left_out else range(0)


def choose_depth(layers: nn.ModuleList, config: PretrainedConfig) -> Depth:
    """The fewest layers that say it all: the first, two whole periods, the last. All of them where nothing repeats."""
    count = len(layers)
    marks = [_mark(layer, config, index, count) for index, layer in enumerate(layers)]
    for period in range(1, count // 2):
        if all(mark == marks[index + period] for index, mark in enumerate(marks[:-period])):
            traced = 2 * period + 2 + (count - 2 * period - 2) % period
            return Depth(traced, period, max(0, count - traced) // period)
    return Depth(count, 1, 0)


def shorten(config: PretrainedConfig, count: int) -> PretrainedConfig:
    """The configuration with its first `count` layers: what it lists for each layer is cut too."""
    config = copy.deepcopy(config)
    text = config.get_text_config()
    full = text.num_hidden_layers
    for name, value in vars(text).items():
        if isinstance(value, (list, tuple)) and len(value) == full:
            text.__dict__[name] = value[:count]
    text.num_hidden_layers = count
    return config


def _mark(layer: nn.Module, config: PretrainedConfig, index: int, count: int) -> tuple[Any, ...]:
    """A mark that is equal for layers that do the same: their classes, shapes and settings, and what the configuration
    lists."""
    shapes = tuple((name, parameter.shape) for name, parameter in layer.named_parameters())
    settings = tuple((type(module), _settings(module)) for module in layer.modules())
    lists = (value for value in vars(config.get_text_config()).values() if isinstance(value, (list, tuple)))
    return shapes, settings, tuple(str(value[index]) for value in lists if len(value) == count)


def _settings(module: nn.Module) -> tuple[Any, ...]:
    plain = (int, float, str, bool, type(None))
    return tuple((name, value) for name, value in vars(module).items() if name != "layer_idx" and type(value) in plain)


def deepen(sections: Sequence[Section], depth: Depth) -> list[Section]:
    """The sections of the full depth.

    What is held grows by the same from period to period: forward by what a period keeps for its backward pass, so that
    the loss, the last layers and each layer on the way back stand that much higher. Exact but for a peak whose place
    within a section moves with the depth.
    """
    if depth.left_out == 0:
        return list(sections)
    deep: list[Section] = []
    for phase in (Phase.FORWARD, Phase.BACKWARD, Phase.EVALUATE):
        deep += _deepen_phase([section for section in sections if section.phase is phase], depth)
    return deep


def _deepen_phase(sections: list[Section], depth: Depth) -> list[Section]:
    """The sections of one phase at full depth. They are in the order of time: something, the layers, something; the
    layers go down on the way back."""
    layers = {section.layer: section for section in sections if section.layer is not None}
    inner = depth.repeated()
    slope_bytes = layers[inner[0]].peak_bytes - layers[inner[0] - depth.period].peak_bytes
    is_backward = sections[0].phase is Phase.BACKWARD
    before, after = sections[0], sections[-1]
    rise_bytes = slope_bytes * depth.left_out
    deep = [layers[index] for index in range(inner.stop)]
    for turn in range(1, depth.left_out + 1):
        deep += [_raised(layers[index], slope_bytes * turn) for index in inner]
    deep += [_raised(layers[index], rise_bytes) for index in range(inner.stop, depth.traced)]
    if is_backward:
        return [_raised(before, rise_bytes), *reversed(deep), after]
    return [before, *deep, _raised(after, rise_bytes)]


def _raised(section: Section, by_bytes: int) -> Section:
    return replace(section, peak_bytes=section.peak_bytes + by_bytes)

"""How much of an offloaded optimizer the device keeps: as many of its sub-groups as memory surely leaves room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autofit.domain.knobs.dtype import FP32_BYTES
from autofit.domain.knobs.offload import Offload
from autofit.domain.strategy import Strategy
from autofit.planning.optimizer_split import OptimizerSplit, split_by_layers
from autofit.planning.parameters import parameters
from autofit.planning.setting import Setting
from autofit.planning.zero_sizes import zero_sizes

from .bucket_size import with_bucket
from .gathering import with_gathering
from .interval import HEADROOM, TRACED_HIGH, worst_fragmentation
from .peak_memory import estimate_memory
from .states import offload_of, optimizer_bytes, part_count


def sized_for(strategy: Strategy, setting: Setting) -> Setting:
    """The setting with whatever is sized for `strategy`: ZeRO's bucket, what is gathered for a generation, and what the
    device keeps of the optimizer."""
    return setting.once((sized_for, strategy), lambda: _sized(strategy, setting))


def _sized(strategy: Strategy, setting: Setting) -> Setting:
    return _with_split(strategy, with_gathering(strategy, with_bucket(strategy, setting)))


def why_undivided(strategies: Sequence[Strategy], setting: Setting) -> str | None:
    """Why an optimizer that may be offloaded in part need not be, or cannot, by any of `strategies`, the smallest
    micro-batch first; None where by one of them it can."""
    if any(is_divided(strategy, setting) for strategy in strategies):
        return None
    if _fits_undivided(strategies[0], setting):
        return "the device holds the whole optimizer"
    return "the device has no room for a part of the optimizer"


def is_divided(strategy: Strategy, setting: Setting) -> bool:
    """Whether a part of the optimizer is on the device, and the whole of it surely could not be."""
    split = sized_for(strategy, setting).split
    return split is not None and split.device_groups > 0 and not _fits_undivided(strategy, setting)


def _fits_undivided(strategy: Strategy, setting: Setting) -> bool:
    """Whether the device surely holds all of the optimizer beside the rest."""
    whole = replace(strategy, rung=replace(strategy.rung, offload=Offload.NONE))
    return setting.once((_fits_undivided, whole), lambda: _fits(whole, setting))


def _fits(whole: Strategy, setting: Setting) -> bool:
    plain = setting if setting.bucket_elements is None else replace(setting, bucket_elements=None)
    lean = _lean(with_bucket(whole, plain), None)
    return estimate_memory(whole, lean).high_bytes <= _limit_bytes(setting)


def _with_split(strategy: Strategy, setting: Setting) -> Setting:
    """The setting with the largest device share at which the upper end of the estimate leaves HEADROOM.

    What trials have taught is left out, as for the bucket: a probe, those after it and the full run have the same one.
    """
    if offload_of(strategy.rung, setting) is not Offload.PARTIAL or setting.split is not None:
        return setting
    split = sub_groups(strategy, setting)
    lean = _lean(setting, split)
    room_bytes = _limit_bytes(setting) - estimate_memory(strategy, lean).high_bytes
    states_bytes = optimizer_bytes(strategy.rung, setting) / part_count(strategy.rung, setting)
    held_bytes = states_bytes + FP32_BYTES  # with the gradient, which lies there for good
    each_bytes = TRACED_HIGH * worst_fragmentation(strategy, lean) * held_bytes
    kept = _kept(split, round(room_bytes / each_bytes))
    while kept.device_groups and not _has_room(strategy, _lean(setting, kept)):
        kept = replace(kept, device_groups=kept.device_groups - 1)
    return setting.once((_with_split, kept), lambda: replace(setting, split=kept))


def _lean(setting: Setting, split: OptimizerSplit | None) -> Setting:
    """The setting with this split and without what trials have taught: the same one for all strategies, with what was
    found in it."""
    return setting.once((_lean, split), lambda: replace(setting, known_constants=None, split=split))


def sub_groups(strategy: Strategy, setting: Setting) -> OptimizerSplit:
    """The sub-groups of a divided optimizer, the same whatever memory there is: a checkpoint has them, too."""
    least = zero_sizes(setting.shape.hidden_size).persistence_threshold
    known = parameters(strategy.rung, setting)
    return split_by_layers(known.groups, setting.shape.layer_count, setting.rank_count, least)


def _kept(split: OptimizerSplit, room_count: int) -> OptimizerSplit:
    """The split with the first sub-groups on the device, `room_count` elements at most, and one left for the host."""
    number = 0
    while number + 1 < len(split.counts) and sum(split.counts[: number + 1]) <= room_count:
        number += 1
    return replace(split, device_groups=number)


def _has_room(strategy: Strategy, setting: Setting) -> bool:
    return estimate_memory(strategy, setting).high_bytes <= _limit_bytes(setting)


def _limit_bytes(setting: Setting) -> float:
    return (1 - HEADROOM) * setting.device_memory_bytes

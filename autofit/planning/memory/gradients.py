"""Gradients that a rank holds while they come, as DeepSpeed 0.19.8 keeps, moves and drops them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from autofit.domain.knobs.dtype import element_bytes
from autofit.domain.knobs.offload import Offload
from autofit.domain.strategy import Strategy
from autofit.planning.parameters import parameters
from autofit.planning.setting import Setting

from .buffers import bucket_count, bucket_elements, is_overlapped
from .states import offload_of, part_count


@dataclass(frozen=True)
class GradientProgress:
    """Trained parameters whose gradients had come when a moment of the backward pass began, and when it ended.

    One that is just being computed counts among the activations.
    """

    before_count: int
    after_count: int
    is_adding: bool = False  # an earlier micro-step of the same optimizer step has left its gradients

    @property
    def new_count(self) -> int:
        return self.after_count - self.before_count


@dataclass(frozen=True)
class Gradients:
    """Bytes of gradients: what stays, and what is on its way through the reduce buckets, those included."""

    kept_bytes: int
    passing_bytes: int


def own_count(strategy: Strategy, setting: Setting) -> int:
    """Elements of the tensors that touch a rank's partition: it keeps those gradients whole. Known error:
    one tensor."""
    known = parameters(strategy.rung, setting)
    return min(known.trained_count, max(part_count(strategy.rung, setting), known.largest_trained_count))


def gradients(strategy: Strategy, setting: Setting, progress: GradientProgress, *, is_first_rank: bool) -> Gradients:
    """What one rank holds while `progress` is made.

    The worst rank's own gradients come at the beginning, those of the first rank (`is_first_rank`) at the very end.
    """
    kept = _KEPT[strategy.rung.zero_stage]
    width = element_bytes(strategy.rung.dtype)
    return Gradients(
        kept_bytes=width * kept(strategy, setting, progress, is_first_rank),
        passing_bytes=width * _passing_count(strategy, setting, progress),
    )


def _kept_whole(strategy: Strategy, setting: Setting, progress: GradientProgress, _: bool) -> int:
    """Gradients under ZeRO-1, which reduces at the end of an optimizer step. With overlap its last micro-step moves
    what fits into a bucket as it comes; only larger tensors stay where they are."""
    known = parameters(strategy.rung, setting)
    if progress.is_adding:
        return known.trained_count
    if is_overlapped(setting.kind) and strategy.gradient_accumulation == 1:
        return round(known.larger_share(bucket_elements(setting)) * progress.before_count)
    return progress.before_count


def _kept_parts(strategy: Strategy, setting: Setting, progress: GradientProgress, is_first_rank: bool) -> int:
    """Gradients under ZeRO-2: a rank's own, and a second time what earlier micro-steps have added up. Offload takes
    both away."""
    if offload_of(strategy.rung, setting) is not Offload.NONE:
        return 0
    own = own_count(strategy, setting)
    others = parameters(strategy.rung, setting).trained_count - own if is_first_rank else 0
    return own * ((progress.before_count > others) + progress.is_adding)


def _kept_nothing(*_: object) -> int:
    """Gradients under ZeRO-3, which adds them to a partition that is always there."""
    return 0


_KEPT: Mapping[int, Callable[[Strategy, Setting, GradientProgress, bool], int]] = {
    0: _kept_whole,
    1: _kept_whole,
    2: _kept_parts,
    3: _kept_nothing,
}


def _passing_count(strategy: Strategy, setting: Setting, progress: GradientProgress) -> int:
    """Elements on their way: the buckets, which appear with the first gradient, and a tensor that waits in its place
    until the next one comes.

    ZeRO-1 lets all of them wait. ZeRO-3 has its bucket from the beginning, and copies what is in it together before it
    is reduced.
    """
    rung, known, bucket = strategy.rung, parameters(strategy.rung, setting), bucket_elements(setting)
    is_there = progress.before_count > 0 or rung.zero_stage == 3 or (rung.zero_stage <= 1 and progress.is_adding)
    buckets = bucket_count(rung, setting) if is_there else 0
    if rung.zero_stage <= 1:
        return buckets
    waiting = known.largest_within(progress.new_count - known.largest_within(progress.new_count))
    return buckets + waiting + (min(bucket, progress.before_count) if rung.zero_stage >= 3 else 0)

"""Gradients that a rank holds while they come, as DeepSpeed 0.19.8 keeps, moves and drops them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from autofit.domain.knobs.dtype import FP64_BYTES, element_bytes
from autofit.domain.knobs.offload import Offload
from autofit.domain.strategy import Strategy
from autofit.planning.parameters import Parameters, parameters
from autofit.planning.setting import Setting

from .buffers import bucket_count, bucket_elements, is_overlapped
from .states import offload_of, part_count


@dataclass(frozen=True)
class GradientProgress:
    """Trained parameters whose gradients had come when a moment of the backward pass began, and when it ended.

    One that is just being computed counts among the activations; `last_count` had come in the moment before.
    """

    before_count: int
    after_count: int
    is_adding: bool = False  # an earlier micro-step of the same optimizer step has left its gradients
    last_count: int = 0

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

    The last rank's own gradients come at the beginning, those of the first rank (`is_first_rank`) at the very end.
    """
    kept = _KEPT[strategy.rung.zero_stage]
    width = element_bytes(strategy.rung.dtype)
    passing_bytes = width * _passing_count(strategy, setting, progress, is_first_rank)
    if offload_of(strategy.rung, setting) is not Offload.NONE:
        passing_bytes += _leaving_bytes(strategy, setting, progress, is_first_rank)
    return Gradients(width * kept(strategy, setting, progress, is_first_rank), passing_bytes)


def _own_before(strategy: Strategy, setting: Setting, progress: GradientProgress, is_first_rank: bool) -> int:
    """Elements of a rank's own gradients that have come: the first rank's are the last ones."""
    own = own_count(strategy, setting)
    others = parameters(strategy.rung, setting).trained_count - own
    return max(0, progress.before_count - others) if is_first_rank else min(own, progress.before_count)


def _kept_whole(strategy: Strategy, setting: Setting, progress: GradientProgress, is_first_rank: bool) -> int:
    """Gradients under ZeRO-1, which reduces at the end of an optimizer step. With overlap its last micro-step moves
    what fits into a bucket as it comes, and its own into a place for all of them, or to the host; only larger tensors
    stay where they are."""
    known = parameters(strategy.rung, setting)
    if strategy.rung.zero_stage == 0 or not is_overlapped(setting.kind):
        return known.trained_count if progress.is_adding else progress.before_count
    is_offloaded = offload_of(strategy.rung, setting) is not Offload.NONE
    own_before = _own_before(strategy, setting, progress, is_first_rank)
    own = own_count(strategy, setting) if own_before and not is_offloaded else 0
    if progress.is_adding:
        return known.trained_count - own_before + own
    if strategy.gradient_accumulation > 1:
        return progress.before_count
    return round(known.larger_share(bucket_elements(setting)) * (progress.before_count - own_before)) + own


def _kept_parts(strategy: Strategy, setting: Setting, progress: GradientProgress, is_first_rank: bool) -> int:
    """Gradients under ZeRO-2: a rank's own, and a second time what earlier micro-steps have added up. Offload takes
    both away."""
    if offload_of(strategy.rung, setting) is not Offload.NONE:
        return 0
    has_own = _own_before(strategy, setting, progress, is_first_rank) > 0
    return own_count(strategy, setting) * (has_own + progress.is_adding)


def _kept_nothing(*_: object) -> int:
    """Gradients under ZeRO-3, which adds them to a partition that is always there."""
    return 0


_KEPT: Mapping[int, Callable[[Strategy, Setting, GradientProgress, bool], int]] = {
    0: _kept_whole,
    1: _kept_whole,
    2: _kept_parts,
    3: _kept_nothing,
}


def _passing_count(strategy: Strategy, setting: Setting, progress: GradientProgress, is_first_rank: bool) -> int:
    """Elements on their way: the buckets, which appear with the first gradient, and a tensor that waits in its place
    until the next one comes.

    ZeRO-1 lets all of them wait, which counts as kept; with offload the copies of a rank's own are beside it. ZeRO-3
    has its bucket from the beginning. What is in a bucket is copied together before it is reduced; below ZeRO-3 either
    that or a tensor that is larger than the bucket (allreduce_bucket in runtime/zero/stage_1_and_2.py).
    """
    rung, bucket = strategy.rung, bucket_elements(setting)
    is_there = progress.before_count > 0 or rung.zero_stage == 3 or (rung.zero_stage <= 1 and progress.is_adding)
    buckets = bucket_count(rung, setting) if is_there else 0
    if rung.zero_stage <= 1 and not is_overlapped(setting.kind):
        return buckets
    waiting = _waiting_count(strategy, setting, progress)
    if rung.zero_stage >= 3:
        return buckets + waiting + min(bucket, progress.before_count)
    copied = _copied_count(strategy, setting, progress, is_first_rank)
    has_waiting = rung.zero_stage == 2 or offload_of(rung, setting) is not Offload.NONE
    return buckets + max(copied, waiting if has_waiting else 0)


def _copied_count(strategy: Strategy, setting: Setting, progress: GradientProgress, is_first_rank: bool) -> int:
    """Elements of the copy of a bucket while it is reduced, which is when it is full or the last gradient has come.
    Without overlap the copy is gone before a rank's own are kept: beside them it counts for as much as it is larger."""
    bucket, trained = bucket_elements(setting), parameters(strategy.rung, setting).trained_count
    copied = min(bucket, progress.before_count)
    if copied < min(bucket, trained):
        return 0
    if is_overlapped(setting.kind) or strategy.rung.zero_stage != 2:
        return copied
    reduced = replace(progress, before_count=progress.before_count - copied)
    missing = _kept_parts(strategy, setting, progress, is_first_rank) - _kept_parts(
        strategy, setting, reduced, is_first_rank
    )
    return max(0, copied - missing)


def _waiting_count(strategy: Strategy, setting: Setting, progress: GradientProgress) -> int:
    """Elements of the largest tensor whose gradient has come and waits in its place for the next one. With offload one
    that is larger than the bucket waits, below ZeRO-3 as a copy, from moment to moment."""
    known = parameters(strategy.rung, setting)
    if offload_of(strategy.rung, setting) is Offload.NONE:
        return _second_count(known, progress)
    waiting = _reduced_count(known, progress)
    return waiting if waiting > bucket_elements(setting) else 0


def _second_count(known: Parameters, progress: GradientProgress) -> int:
    """Elements of the second largest tensor that comes: the largest one is just being computed."""
    return known.largest_within(progress.new_count - known.largest_within(progress.new_count))


def _reduced_count(known: Parameters, progress: GradientProgress) -> int:
    """Elements of the largest tensor that is reduced while others come."""
    return max(_second_count(known, progress), known.largest_within(progress.last_count))


NORM_ELEMENTS = 250_000_000
"""ZeRO-3 takes the norm of so many elements at a time (_constant_buffered_norm2 in runtime/zero/stage3.py)."""


def _leaving_bytes(strategy: Strategy, setting: Setting, progress: GradientProgress, is_first_rank: bool) -> int:
    """What is made on the device of a rank's own gradients before they go to the host: a tensor's part in double
    precision, for the norm, which ZeRO-3 has fetched back from there. Errs high by what a layer's activations shrink
    until the next gradient comes."""
    largest = _reduced_count(parameters(strategy.rung, setting), progress)
    if strategy.rung.zero_stage >= 3:
        partition = -(-largest // setting.rank_count)
        return element_bytes(strategy.rung.dtype) * partition + FP64_BYTES * min(NORM_ELEMENTS, partition)
    has_own = _own_before(strategy, setting, progress, is_first_rank) > 0
    return FP64_BYTES * min(part_count(strategy.rung, setting), largest) if has_own else 0

"""Gradients that a rank holds while they come, as DeepSpeed 0.19.8 keeps, moves and drops them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from autofit.domain.knobs.dtype import FP64_BYTES, element_bytes
from autofit.domain.knobs.offload import Offload
from autofit.domain.strategy import Rung, Strategy
from autofit.planning.parameters import Parameters, parameters
from autofit.planning.setting import Setting

from .buffers import bucket_count, bucket_elements, overlaps
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


def own_count(rung: Rung, setting: Setting) -> int:
    """Elements of the tensors that touch a rank's partition: it keeps those gradients whole. Known error:
    one tensor."""
    known = parameters(rung, setting)
    return min(known.trained_count, max(part_count(rung, setting), known.largest_trained_count))


@dataclass(frozen=True)
class GradientRules:
    """All that decides what one rank holds of gradients, but for how many of them have come. Counts in elements.

    The last rank's own gradients come at the beginning, those of the first rank (`is_first_rank`) at the very end.
    """

    known: Parameters
    zero_stage: int
    width_bytes: int  # of an element
    rank_count: int
    part_count: int
    own_count: int
    bucket_count: int  # of one reduce bucket
    buckets_count: int  # of all of them
    is_overlapped: bool
    is_offloaded: bool
    accumulates: bool
    is_first_rank: bool

    def held(self, progress: GradientProgress) -> Gradients:
        """What the rank holds while `progress` is made."""
        passing_bytes = self.width_bytes * self._passing_count(progress)
        if self.is_offloaded:
            passing_bytes += self._leaving_bytes(progress)
        return Gradients(self.width_bytes * self._kept_count(progress), passing_bytes)

    def _own_before(self, progress: GradientProgress) -> int:
        """Elements of a rank's own gradients that have come: the first rank's are the last ones."""
        others = self.known.trained_count - self.own_count
        return (
            max(0, progress.before_count - others) if self.is_first_rank else min(self.own_count, progress.before_count)
        )

    def _kept_count(self, progress: GradientProgress) -> int:
        """Elements that stay: none under ZeRO-3, which adds them to a partition that is always there."""
        if self.zero_stage >= 3:
            return 0
        return self._kept_parts(progress) if self.zero_stage == 2 else self._kept_whole(progress)

    def _kept_whole(self, progress: GradientProgress) -> int:
        """Gradients under ZeRO-1, which reduces at the end of an optimizer step. With overlap its last micro-step moves
        what fits into a bucket as it comes, and its own into a place for all of them, or to the host; only larger
        tensors stay where they are."""
        trained = self.known.trained_count
        if self.zero_stage == 0 or not self.is_overlapped:
            return trained if progress.is_adding else progress.before_count
        own_before = self._own_before(progress)
        own = self.own_count if own_before and not self.is_offloaded else 0
        if progress.is_adding:
            return trained - own_before + own
        if self.accumulates:
            return progress.before_count
        return round(self._larger_share * (progress.before_count - own_before)) + own

    @cached_property
    def _larger_share(self) -> float:
        return self.known.larger_share(self.bucket_count)

    def _kept_parts(self, progress: GradientProgress) -> int:
        """Gradients under ZeRO-2: a rank's own, and a second time what earlier micro-steps have added up. Offload takes
        both away."""
        if self.is_offloaded:
            return 0
        has_own = self._own_before(progress) > 0
        return self.own_count * (has_own + progress.is_adding)

    def _passing_count(self, progress: GradientProgress) -> int:
        """Elements on their way: the buckets, which appear with the first gradient, and a tensor that waits in its
        place until the next one comes.

        ZeRO-1 lets all of them wait, which counts as kept; with offload the copies of a rank's own are beside it.
        ZeRO-3 has its bucket from the beginning. What is in a bucket is copied together before it is reduced; below
        ZeRO-3 either that or a tensor that is larger than the bucket (allreduce_bucket in
        runtime/zero/stage_1_and_2.py).
        """
        stage = self.zero_stage
        is_there = progress.before_count > 0 or stage == 3 or (stage <= 1 and progress.is_adding)
        buckets = self.buckets_count if is_there else 0
        if stage <= 1 and not self.is_overlapped:
            return buckets
        waiting = self._waiting_count(progress)
        if stage >= 3:
            return buckets + waiting + min(self.bucket_count, progress.before_count)
        copied = self._copied_count(progress)
        return buckets + max(copied, waiting if stage == 2 or self.is_offloaded else 0)

    def _copied_count(self, progress: GradientProgress) -> int:
        """Elements of the copy of a bucket while it is reduced, which is when it is full or the last gradient has come.
        Without overlap the copy is gone before a rank's own are kept: beside them it counts for as much as it is
        larger."""
        copied = min(self.bucket_count, progress.before_count)
        if copied < min(self.bucket_count, self.known.trained_count):
            return 0
        if self.is_overlapped or self.zero_stage != 2:
            return copied
        reduced = replace(progress, before_count=progress.before_count - copied)
        return max(0, copied - (self._kept_parts(progress) - self._kept_parts(reduced)))

    def _waiting_count(self, progress: GradientProgress) -> int:
        """Elements of the largest tensor whose gradient has come and waits in its place for the next one. With offload
        one that is larger than the bucket waits, below ZeRO-3 as a copy, from moment to moment."""
        if not self.is_offloaded:
            return _second_count(self.known, progress)
        waiting = _reduced_count(self.known, progress)
        return waiting if waiting > self.bucket_count else 0

    def _leaving_bytes(self, progress: GradientProgress) -> int:
        """What is made on the device of a rank's own gradients before they go to the host: a tensor's part in double
        precision, for the norm, which ZeRO-3 has fetched back from there. Errs high by what a layer's activations
        shrink until the next gradient comes."""
        largest = _reduced_count(self.known, progress)
        if self.zero_stage >= 3:
            partition = -(-largest // self.rank_count)
            return self.width_bytes * partition + FP64_BYTES * min(NORM_ELEMENTS, partition)
        return FP64_BYTES * min(self.part_count, largest) if self._own_before(progress) > 0 else 0


def gradient_rules(strategy: Strategy, setting: Setting, *, is_first_rank: bool) -> GradientRules:
    rung = strategy.rung
    return GradientRules(
        parameters(rung, setting),
        rung.zero_stage,
        element_bytes(rung.dtype),
        setting.rank_count,
        part_count(rung, setting),
        own_count(rung, setting),
        bucket_elements(setting),
        bucket_count(rung, setting),
        overlaps(rung, setting),
        offload_of(rung, setting) is not Offload.NONE,
        strategy.gradient_accumulation > 1,
        is_first_rank,
    )


def _second_count(known: Parameters, progress: GradientProgress) -> int:
    """Elements of the second largest tensor that comes: the largest one is just being computed."""
    return known.largest_within(progress.new_count - known.largest_within(progress.new_count))


def _reduced_count(known: Parameters, progress: GradientProgress) -> int:
    """Elements of the largest tensor that is reduced while others come."""
    return max(_second_count(known, progress), known.largest_within(progress.last_count))


NORM_ELEMENTS = 250_000_000
"""ZeRO-3 takes the norm of so many elements at a time (_constant_buffered_norm2 in runtime/zero/stage3.py)."""

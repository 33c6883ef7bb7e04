"""How wide the micro-batches of this data are."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from autofit.domain.hardware import DeviceKind
from autofit.domain.workload import BatchShape, DataProfile

# Rows are padded to a multiple of this. Tensor cores like 8; on a CPU oneDNN compiles and keeps its kernels for every
# new width (about 15 MB each on a model of 14 M parameters in bf16), so there widths must be few.
PAD_TO_MULTIPLE = {DeviceKind.CUDA: 8, DeviceKind.CPU: 32}

# Steps of the golden ratio spread evenly over [0, 1) whatever their number, and so does every second or fourth of them:
# accumulation and ranks take their micro-batches from the same row (Niederreiter, Random Number Generation and
# Quasi-Monte Carlo Methods, 1992, ch. 3).
_GOLDEN_STEP = (math.sqrt(5) - 1) / 2


def padded_tokens(tokens: int, multiple: int) -> int:
    """How wide a batch is whose longest row has `tokens`."""
    return math.ceil(tokens / multiple) * multiple


def is_padded(profile: DataProfile, sequences_per_row: int) -> bool:
    """Whether sequences differ in length: the two of a row are taken to."""
    return sequences_per_row > 1 or profile.sampled_lengths_tokens[0] < profile.longest_tokens


def has_same_width(one: DataProfile, other: DataProfile, kind: DeviceKind) -> bool:
    """Whether the widest micro-batches of both are padded to the same width: what fits of one fits of the other."""
    multiple = PAD_TO_MULTIPLE[kind]
    return padded_tokens(one.longest_tokens, multiple) == padded_tokens(other.longest_tokens, multiple)


def worst_shape(profile: DataProfile, micro_batch: int, sequences_per_row: int = 1) -> BatchShape:
    """The shape of a micro-batch that is as wide as the longest sequence. The others are one token shorter: a padded
    batch really has an attention mask."""
    longest, sequences = profile.longest_tokens, micro_batch * sequences_per_row
    rest = longest - 1 if is_padded(profile, sequences_per_row) else longest
    return BatchShape(padded_tokens=longest, mean_tokens=(longest + rest * (sequences - 1)) / sequences)


def widths(profile: DataProfile, multiple: int) -> tuple[BatchShape, ...]:
    """One full micro-batch for each width that padding to `multiple` tokens can give, but for the widest."""
    padded = sorted({padded_tokens(length, multiple) for length in profile.sampled_lengths_tokens})
    return tuple(BatchShape(width, float(width)) for width in padded[:-1])


def typical_shapes(
    profile: DataProfile, micro_batch: int, count: int, sequences_per_row: int = 1
) -> tuple[BatchShape, ...]:
    """The shapes of `count` micro-batches as they come when rows are drawn at random and padded to the longest of them.

    The longest of b draws does not exceed the u-quantile of the lengths with probability u^b (David and Nagaraja, Order
    Statistics, 2003, ch. 2); the other rows are as long as the rows up to it are on average. Exact for the sample,
    with replacement; a sample's tail is shorter than the data's. Known error: the shorter sequence of a row counts as
    long as the longer one.
    """
    return tuple(
        _shape(profile, micro_batch, sequences_per_row, (0.5 + step * _GOLDEN_STEP) % 1.0) for step in range(count)
    )


@dataclass(frozen=True)
class ProbedStep:
    """One optimizer step of a probe: the micro-batches of all ranks, dealt out in turn."""

    shapes: tuple[BatchShape, ...]
    is_measured: bool


def warmed(
    steps: Iterable[tuple[BatchShape, ...]], rank_count: int, seen: Sequence[BatchShape], multiple: int
) -> Iterator[ProbedStep]:
    """The steps to be measured; one in which some rank meets a new width comes twice, and counts the second time.

    Every rank has met the widths of `seen`; rows are padded to `multiple` tokens. A GPU pays for a new width what it
    pays once in a training: cuDNN, whose attention torch prefers on Hopper, builds its plans (23 to 37 ms each).
    """
    met = [{padded_tokens(shape.padded_tokens, multiple) for shape in seen} for _ in range(rank_count)]
    for shapes in steps:
        is_new = False
        for number, shape in enumerate(shapes):
            width, known = padded_tokens(shape.padded_tokens, multiple), met[number % rank_count]
            is_new |= width not in known
            known.add(width)
        if is_new:
            yield ProbedStep(shapes, is_measured=False)
        yield ProbedStep(shapes, is_measured=True)


def _shape(profile: DataProfile, micro_batch: int, sequences_per_row: int, u: float) -> BatchShape:
    lengths, sequences = profile.sampled_lengths_tokens, micro_batch * sequences_per_row
    n_below = max(1, math.ceil(len(lengths) * u ** (1 / micro_batch)))
    longest = lengths[n_below - 1]
    others = sum(lengths[:n_below]) / n_below
    return BatchShape(padded_tokens=longest, mean_tokens=(longest + others * (sequences - 1)) / sequences)

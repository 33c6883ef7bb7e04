"""How wide the micro-batches of this data are."""

from __future__ import annotations

import math

from autofit.domain.hardware import DeviceKind
from autofit.domain.workload import BatchShape, DataProfile

# Rows are padded to a multiple of this. Tensor cores like 8; on a CPU oneDNN compiles and keeps its kernels for every
# new width (about 15 MB each on a model of 14 M parameters in bf16), so there widths must be few.
PAD_TO_MULTIPLE = {DeviceKind.CUDA: 8, DeviceKind.CPU: 32}

# Steps of the golden ratio spread evenly over [0, 1) whatever their number, and so does every second or fourth of them:
# accumulation and ranks take their micro-batches from the same row (Niederreiter, Random Number Generation and
# Quasi-Monte Carlo Methods, 1992, ch. 3).
_GOLDEN_STEP = (math.sqrt(5) - 1) / 2


def worst_shape(profile: DataProfile, micro_batch: int) -> BatchShape:
    """As wide as the longest row. The other rows are one token shorter: a padded batch really has an attention mask."""
    longest = profile.longest_tokens
    is_padded = profile.sampled_lengths_tokens[0] < longest
    rest = longest - 1 if is_padded else longest
    return BatchShape(padded_tokens=longest, mean_tokens=(longest + rest * (micro_batch - 1)) / micro_batch)


def widths(profile: DataProfile, multiple: int) -> tuple[BatchShape, ...]:
    """One full micro-batch for each width that padding to `multiple` tokens can give, but for the widest."""
    padded = sorted({math.ceil(length / multiple) * multiple for length in profile.sampled_lengths_tokens})
    return tuple(BatchShape(width, float(width)) for width in padded[:-1])


def typical_shapes(profile: DataProfile, micro_batch: int, count: int) -> tuple[BatchShape, ...]:
    """`count` micro-batches as they come when rows are drawn at random and padded to the longest of them.

    The longest of b draws does not exceed the u-quantile of the lengths with probability u^b (David and Nagaraja, Order
    Statistics, 2003, ch. 2); the other rows are as long as the rows up to it are on average. Exact for the sample,
    with replacement; a sample's tail is shorter than the data's.
    """
    return tuple(_shape(profile, micro_batch, (0.5 + step * _GOLDEN_STEP) % 1.0) for step in range(count))


def _shape(profile: DataProfile, micro_batch: int, u: float) -> BatchShape:
    lengths = profile.sampled_lengths_tokens
    n_below = max(1, math.ceil(len(lengths) * u ** (1 / micro_batch)))
    longest = lengths[n_below - 1]
    others = sum(lengths[:n_below]) / n_below
    return BatchShape(padded_tokens=longest, mean_tokens=(longest + others * (micro_batch - 1)) / micro_batch)

"""The shapes of a probe's batches: the worst ones first, then typical ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from autofit.domain.workload import BatchShape
from autofit.planning.data.batch_widths import PAD_TO_MULTIPLE, ProbedStep, warmed
from autofit.planning.probe_steps import MEMORY_STEPS, steps_with_rows
from autofit.probing.protocol import ProbeSpec

_UNREAD = BatchShape(1, 1.0)


def memory_steps(spec: ProbeSpec, accumulation: int) -> int:
    """The number of optimizer steps before the measured ones: each worst shape once, the last of them for a whole step
    at the end."""
    return max(MEMORY_STEPS, math.ceil((len(spec.worst) - 1) / _shapes_per_step(spec, accumulation)) + 1)


def schedule(spec: ProbeSpec, accumulation: int) -> tuple[ProbedStep, ...]:
    """The worst shapes, then the typical ones, which are measured, each once its ranks have met its widths."""
    ranks, shown = spec.job.rank_count, _shapes_per_step(spec, accumulation)
    last = len(spec.worst) - 1
    memory = [
        tuple(
            spec.worst[min(step * shown + place % shown, last)] for place in range(accumulation) for _ in range(ranks)
        )
        for step in range(memory_steps(spec, accumulation))
    ]
    typical = itertools.cycle(spec.typical)
    steps = (tuple(itertools.islice(typical, accumulation * ranks)) for _ in range(steps_with_rows(spec.measure_s)))
    return (
        *(ProbedStep(shapes, is_measured=False) for shapes in memory),
        *warmed(steps, ranks, seen=spec.worst, multiple=PAD_TO_MULTIPLE[spec.job.kind]),
    )


def _shapes_per_step(spec: ProbeSpec, accumulation: int) -> int:
    """How many worst shapes one step shows a rank: a generation pads all its prompts to the longest of them, and which
    rank has which prompt no micro-batch decides."""
    return 1 if spec.job.request.task.traits.generates else accumulation


def read_by(rank_index: int, rank_count: int, shapes: list[BatchShape]) -> list[BatchShape]:
    """The rows as one rank reads them, with next to nothing in the places of the other ranks' batches: thousands of
    long rows take seconds to make."""
    return [shape if place % rank_count == rank_index else _UNREAD for place, shape in enumerate(shapes)]


def row_lengths(shape: BatchShape, count: int) -> list[int]:
    """The lengths in tokens of the `count` sequences of a micro-batch: one as wide as the batch is padded, the others
    as long as the mean demands."""
    if count == 1:
        return [shape.padded_tokens]
    rest = (shape.mean_tokens * count - shape.padded_tokens) / (count - 1)
    return [shape.padded_tokens] + [min(shape.padded_tokens, max(1, round(rest)))] * (count - 1)


def pair_lengths(shapes: Sequence[BatchShape], micro_batch: int) -> tuple[list[int], list[int]]:
    """The lengths of rows of two sequences in micro-batches of these shapes: of the first ones and of the second."""
    lengths = [row_lengths(shape, 2 * micro_batch) for shape in shapes]
    first = [length for batch in lengths for length in batch[:micro_batch]]
    return first, [length for batch in lengths for length in batch[micro_batch:]]

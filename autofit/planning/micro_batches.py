"""Micro-batches that keep the global batch what the user asked for."""

from __future__ import annotations

import math

from autofit.domain.errors import UsageError
from autofit.domain.request import Request
from autofit.planning.reference import compares_rows


def asked_micro_batches(request: Request, rank_count: int) -> tuple[int, ...]:
    """The micro-batches that a request leaves, of two rows or more where these are held against each other; UsageError
    as `micro_batches`."""
    least = 2 if compares_rows(request) else 1
    return micro_batches(request.global_batch, rank_count, request.pins.micro_batch, least=least)


def micro_batches(global_batch: int, rank_count: int, pinned: int | None = None, *, least: int = 1) -> tuple[int, ...]:
    """Micro-batches (rows per device, `least` or more) whose whole multiple is the global batch, smallest first.

    UsageError when the ranks cannot share the global batch, when it leaves each fewer rows than `least`, or when the
    pinned micro-batch does not divide a rank's share or is less.
    """
    if global_batch < 1 or global_batch % rank_count:
        raise UsageError(_indivisible(global_batch, rank_count))
    share = global_batch // rank_count
    if share < least:
        rows = f"{share} row{'s' if share > 1 else ''}"
        raise UsageError(
            f"a global batch of {global_batch} leaves each of {rank_count} ranks {rows}, and this task holds {least} "
            f"or more of a micro-batch against each other; add --batch-size {least * rank_count}"
        )
    divisors = tuple(rows for rows in _divisors(share) if rows >= least)
    if pinned is None:
        return divisors
    if pinned < least:
        raise UsageError(
            f"--micro-batch {pinned} is too small: this task holds the rows of a micro-batch against each other; "
            f"give {_listed(divisors)}"
        )
    if pinned not in divisors:
        raise UsageError(
            f"--micro-batch {pinned} does not divide the {share} rows that each of {rank_count} ranks takes of a "
            f"global batch of {global_batch}; {_listed(divisors)} {'does' if len(divisors) == 1 else 'do'}"
        )
    return (pinned,)


def _divisors(number: int) -> list[int]:
    """All divisors, smallest first; each up to the square root has its partner beyond."""
    small = [low for low in range(1, math.isqrt(number) + 1) if number % low == 0]
    return small + [number // low for low in reversed(small) if low * low != number]


def accumulation(global_batch: int, rank_count: int, micro_batch: int) -> int:
    """Micro-batches that each rank adds up for one optimizer step."""
    assert global_batch % (rank_count * micro_batch) == 0, (global_batch, rank_count, micro_batch)
    return global_batch // (rank_count * micro_batch)


def _indivisible(global_batch: int, rank_count: int) -> str:
    below = global_batch // rank_count * rank_count
    near = [str(size) for size in (below, below + rank_count) if size > 0]
    return (
        f"a global batch of {global_batch} cannot be shared by {rank_count} ranks; "
        f"the nearest that {'works is' if len(near) == 1 else 'work are'} --batch-size {' and '.join(near)}"
    )


def _listed(numbers: tuple[int, ...]) -> str:
    *most, last = [str(number) for number in numbers]
    return f"{', '.join(most)} and {last}" if most else last

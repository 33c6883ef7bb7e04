"""What a process held, replayed from the changes that the counted device kept: sums and peaks, phase by phase."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise
from typing import Any

import numpy as np

from autofit.domain.outcome import Phase
from autofit.planning.memory.pinned import EXACT_FROM_BYTES

Table = Any  # numpy's: rows of place, block, bytes taken (+) or given back (-), index of a name
Column = Any  # numpy's: a number for each change


class Place(IntEnum):
    """Where a block lies, as the library numbers it."""

    DEVICE = 0
    PINNED = 1
    PAGEABLE = 2


@dataclass(frozen=True)
class Mark:
    """Where among the changes a phase begins; the last one, without a phase, ends the last phase."""

    change_index: int
    phase: Phase | None
    is_adding: bool = False  # an earlier micro-step of the same optimizer step has left its gradients


@dataclass(frozen=True)
class Held:
    """Bytes at one moment, or each at its own peak. `host_bytes` are pageable and pinned ones together, the pinned as
    torch's allocator takes them where it is told to pin large blocks as they are; `rounded_host_bytes` where it is
    not."""

    device_bytes: int
    pinned_bytes: int  # as they are asked for
    pageable_bytes: int
    host_bytes: int
    rounded_host_bytes: int


@dataclass(frozen=True)
class Stretch:
    """One phase of one micro-step: what was held at most, and at its end."""

    phase: Phase
    is_adding: bool
    peak: Held
    end: Held
    at_device_peak: tuple[tuple[str, int], ...] = field(default=(), compare=False)  # who held it, the most first
    at_host_peak: tuple[tuple[str, int], ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Truth:
    """A training's stretches in the order of time, and its losses."""

    stretches: tuple[Stretch, ...]
    losses: tuple[float, ...]

    @property
    def device_peak_bytes(self) -> int:
        return max(stretch.peak.device_bytes for stretch in self.stretches)

    @property
    def host_peak_bytes(self) -> int:
        return max(stretch.peak.host_bytes for stretch in self.stretches)

    @property
    def resident(self) -> Held:
        """What lasts from step to step."""
        return next(stretch.end for stretch in reversed(self.stretches) if stretch.phase is Phase.STEP)


def truth(
    changes: Sequence[Sequence[int]], names: Sequence[str], marks: Sequence[Mark], losses: tuple[float, ...]
) -> Truth:
    """The stretches between `marks`; `changes` are as the library keeps them, in the order of time."""
    table = np.array(changes, dtype=np.int64).reshape(-1, 4)
    held = {place: np.cumsum(np.where(table[:, 0] == place, table[:, 2], 0)) for place in Place}
    pageable = held[Place.PAGEABLE]
    host, rounded_host = pageable + _kept(table, EXACT_FROM_BYTES), pageable + _kept(table, None)
    columns = (held[Place.DEVICE], held[Place.PINNED], pageable, host, rounded_host)
    stretches = []
    for mark, following in pairwise(marks):
        assert mark.phase is not None
        begin = max(0, mark.change_index - 1)  # what the phase before has left counts, too
        end = max(begin + 1, following.change_index)
        device_at = begin + int(np.argmax(held[Place.DEVICE][begin:end]))
        host_at = begin + int(np.argmax(host[begin:end]))
        stretches.append(
            Stretch(
                mark.phase,
                mark.is_adding,
                Held(*(int(column[begin:end].max()) for column in columns)),
                Held(*(int(column[end - 1]) for column in columns)),
                _owners(table[: device_at + 1], names, {Place.DEVICE}),
                _owners(table[: host_at + 1], names, {Place.PINNED, Place.PAGEABLE}),
            )
        )
    return Truth(tuple(stretches), losses)


def _kept(table: Table, exact_from_bytes: int | None) -> Column:
    """Bytes that torch's pinned allocator has taken by each change: blocks of powers of two, of which freed ones serve
    only requests of the same size and are never given back; larger ones than `exact_from_bytes` as they are, and given
    back (torch 2.13, ATen/core/CachingHostAllocator.h)."""
    idle: Counter[int] = Counter()
    kept_bytes, by_change = 0, []
    for place, _, change_bytes, _ in table.tolist():
        if place == Place.PINNED:
            asked_bytes = abs(change_bytes)
            if exact_from_bytes is not None and asked_bytes > exact_from_bytes:
                kept_bytes += change_bytes
            else:
                block_bytes = 1 << (asked_bytes - 1).bit_length()
                is_taken = change_bytes > 0
                kept_bytes += block_bytes if is_taken and not idle[block_bytes] else 0
                idle[block_bytes] = max(0, idle[block_bytes] - 1) if is_taken else idle[block_bytes] + 1
        by_change.append(kept_bytes)
    return np.array(by_change, dtype=np.int64)


def _owners(table: Table, names: Sequence[str], places: set[Place]) -> tuple[tuple[str, int], ...]:
    """The names of what is held after the changes of `table`, with their bytes, where blocks have names."""
    if len(names) == 1:
        return ()
    own = table[np.isin(table[:, 0], list(places))]
    held_bytes: Counter[str] = Counter()
    for _, _, change_bytes, name in own.tolist():
        held_bytes[names[name]] += change_bytes
    return tuple((name, size) for name, size in held_bytes.most_common(12) if size)

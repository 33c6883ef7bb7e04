"""What a process held, replayed from the changes that the counted device kept: sums and peaks, phase by phase."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from autofit.domain.outcome import Phase


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
    """Bytes at one moment, or each at its own peak; `pinned_kept_bytes` is what torch's pinned allocator takes for
    `pinned_bytes`, where it rounds, and keeps."""

    device_bytes: int
    pinned_bytes: int
    pinned_kept_bytes: int
    pageable_bytes: int
    host_bytes: int = 0  # pinned as kept and pageable together

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
    """`changes` are rows of place, block, bytes taken (+) or given back (-), and the index of a name."""
    table = np.array(changes, dtype=np.int64).reshape(-1, 4)
    held = {place: np.cumsum(np.where(table[:, 0] == place, table[:, 2], 0)) for place in Place}
    kept = _kept(table)
    host = kept + held[Place.PAGEABLE]
    columns = (held[Place.DEVICE], held[Place.PINNED], kept, held[Place.PAGEABLE], host)
    stretches = []
    for mark, following in zip(marks, marks[1:]):
        assert mark.phase is not None
        begin, end = max(0, mark.change_index - 1), following.change_index
        if end <= begin:  # nothing has changed since the process began
            end = begin + 1
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


def _kept(table: np.ndarray) -> np.ndarray:
    """Bytes that torch's pinned allocator has taken by each change: blocks of powers of two, of which freed ones serve
    only requests of the same size and are never given back (torch 2.13, ATen/core/CachingHostAllocator.h)."""
    idle: Counter[int] = Counter()
    kept, sizes = 0, []
    for place, _, change_bytes, _ in table.tolist():
        if place == Place.PINNED:
            size = 1 << (abs(change_bytes) - 1).bit_length()
            if change_bytes < 0:
                idle[size] += 1
            elif idle[size]:
                idle[size] -= 1
            else:
                kept += size
        sizes.append(kept)
    return np.array(sizes, dtype=np.int64)


def _owners(table: np.ndarray, names: Sequence[str], places: set[Place]) -> tuple[tuple[str, int], ...]:
    """The names of what is held after the changes of `table`, with their bytes, where blocks have names."""
    if len(names) == 1:
        return ()
    own = table[np.isin(table[:, 0], list(places))]
    held_bytes: Counter[str] = Counter()
    for _, _, change_bytes, name in own.tolist():
        held_bytes[names[name]] += change_bytes
    return tuple((name, size) for name, size in held_bytes.most_common(12) if size)

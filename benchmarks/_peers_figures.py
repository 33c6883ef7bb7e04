"""From stamped steps to what the peers benchmark says: times, medians, ratios, and trainings of other lengths."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

WARMING_STEPS = 2  # the first ones count for no speed
MAX_SLOWER = 1.03  # the aim: a step of autofit's choice ÷ the fastest peer's


@dataclass(frozen=True)
class Run:
    """One command, in seconds from its start to its end or, where it was interrupted, to that."""

    step_ends_s: tuple[float, ...]
    total_s: float
    cpu_s: float  # user and system, of the command and of everything under it
    setting: str  # how it trained: the strategy, or a peer's micro-batch
    is_whole: bool = True  # False: interrupted

    @property
    def start_s(self) -> float:
        """From the command to the end of the first step."""
        return self.step_ends_s[0]

    @property
    def step_s(self) -> float:
        """The median of the steps after the first two."""
        ends = self.step_ends_s[WARMING_STEPS - 1 :]
        return statistics.median(end - begin for begin, end in pairwise(ends))

    @property
    def end_s(self) -> float:
        """From the end of the last step to the end of the command, which has saved the model."""
        return self.total_s - self.step_ends_s[-1]


@dataclass(frozen=True)
class Times:
    """Medians of one competitor's runs."""

    start_s: float
    step_s: float
    end_s: float
    total_s: float

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Times:
        assert all(run.is_whole for run in runs), "what was interrupted has no end"
        return cls(
            statistics.median(run.start_s for run in runs),
            statistics.median(run.step_s for run in runs),
            statistics.median(run.end_s for run in runs),
            statistics.median(run.total_s for run in runs),
        )

    def to_end_s(self, step_count: int) -> float:
        return to_end_s(step_count, start_s=self.start_s, step_s=self.step_s, end_s=self.end_s)


def to_end_s(step_count: int, *, start_s: float, step_s: float, end_s: float) -> float:
    """The whole of a training of `step_count` steps: the first one is in the start."""
    return start_s + (step_count - 1) * step_s + end_s


def fastest(peers: Mapping[str, Sequence[Run]]) -> str:
    """The peer with the fastest step; ValueError when none has run."""
    return min((name for name, runs in peers.items() if runs), key=lambda name: Times.of(peers[name]).step_s)


def soonest_s(peers: Mapping[str, Sequence[Run]], step_count: int) -> float:
    """The time to the end of the peer that would be there first."""
    return min(Times.of(runs).to_end_s(step_count) for runs in peers.values() if runs)


def step_ratio(ours: Sequence[Run], theirs: Sequence[Run]) -> float:
    """The median of the ratios within each round, where whatever else the machine did met both alike."""
    return statistics.median(one.step_s / other.step_s for one, other in zip(ours, theirs, strict=True))


def total_ratio(ours: Sequence[Run], theirs: Sequence[Run]) -> float:
    pairs = zip(ours, theirs, strict=True)
    return statistics.median(one.total_s / other.total_s for one, other in pairs)


def steps_of(length_s: float, step_s: float) -> int:
    """How many steps a training of so many seconds has."""
    return max(WARMING_STEPS + 1, round(length_s / step_s))

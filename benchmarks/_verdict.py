"""From measured speeds to what a decision was worth."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from autofit.domain.strategy import Strategy


@dataclass(frozen=True)
class Speed:
    """Of one strategy over all rounds, in tokens per second."""

    median: float
    low: float
    high: float
    round_count: int

    @classmethod
    def of(cls, tokens_per_s: list[float]) -> Speed:
        return cls(statistics.median(tokens_per_s), min(tokens_per_s), max(tokens_per_s), len(tokens_per_s))


Speeds = Mapping[Strategy, Speed]


def finalists(sweeps: Iterable[Mapping[Strategy, float]], picks: Iterable[Strategy], count: int) -> list[Strategy]:
    """The `count` best of each sweep (tokens/s by strategy) and the picks, each once."""
    best = [strategy for sweep in sweeps for strategy in sorted(sweep, key=sweep.__getitem__, reverse=True)[:count]]
    return list(dict.fromkeys([*best, *picks]))


def best(speeds: Speeds) -> Strategy:
    return max(speeds, key=lambda strategy: speeds[strategy].median)


def regret(pick: Strategy, speeds: Speeds) -> float | None:
    """What share of the best's speed the pick gives away; 1 when it does not run, None when nothing was measured."""
    if not speeds:
        return None
    return 1.0 - speeds[pick].median / speeds[best(speeds)].median if pick in speeds else 1.0

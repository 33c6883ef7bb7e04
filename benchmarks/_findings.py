"""What the parties of the decision benchmark found, one row for each way to decide."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from _autofit_run import Decision
from _autotuner import Tuned
from _cold_job import ColdJob
from _verdict import Speed, best, regret

from autofit.domain.strategy import Strategy

AIM_PROBES, AIM_TO_END, AIM_AGAIN_S = 3, 1.06, 10.0


@dataclass(frozen=True)
class Warm:
    """What warm probes say: each candidate once, and the finalists round by round."""

    sweep_s: float
    probe_count: int
    once: dict[Strategy, float]  # tokens/s of what fits
    speeds: dict[Strategy, Speed]


@dataclass(frozen=True)
class Length:
    """How long the training is for which is decided: `seconds` at the speed of the fastest that is known beforehand."""

    seconds: float
    step_count: int
    tokens: int

    @classmethod
    def of(cls, seconds: float, tokens_per_s: float, tokens_per_step: int) -> Length:
        step_count = max(1, round(seconds * tokens_per_s / tokens_per_step))
        return cls(seconds, step_count, step_count * tokens_per_step)


@dataclass(frozen=True)
class Parties:
    """Who decided what, round by round; the autotuner is a sentence where it could not run, and `cold` is empty where
    that sweep was not asked for."""

    autofit: Sequence[Decision]
    again: Sequence[Decision]
    cold: Sequence[ColdJob]
    tuned: Sequence[Tuned] | str

    @property
    def cold_speeds(self) -> dict[Strategy, float]:
        return {job.strategy: job.tokens_per_s for job in self.cold if job.tokens_per_s is not None}

    @property
    def cold_pick(self) -> Strategy:
        return max(self.cold_speeds, key=self.cold_speeds.__getitem__)

    @property
    def cold_s(self) -> float:
        return sum(job.total_s for job in self.cold)

    @property
    def picks(self) -> list[Strategy]:
        ours = [one.strategy for one in (*self.autofit, *self.again)]
        cold = [self.cold_pick] if self.cold_speeds else []
        return [*ours, *cold, *(one.strategy for one in _ended(self.tuned) if one.strategy is not None)]


@dataclass(frozen=True)
class Row:
    """One way to decide: medians over its rounds, and what it picked in each of them."""

    name: str
    decide_s: float
    tries: str
    picks: tuple[Strategy | None, ...]
    regret: float | None
    ratio: float  # its time to decide ÷ autofit's
    to_end: float | None  # deciding and training ÷ a training with the best, known beforehand; None: it does not train


def rows(parties: Parties, warm: Warm, length: Length) -> list[Row]:
    ours_s = statistics.median(one.decide_s for one in parties.autofit)

    def row(name: str, decided: Sequence[tuple[float, Strategy | None]], tries: str) -> Row:
        decide_s = statistics.median(seconds for seconds, _ in decided)
        lost = [regret(pick, warm.speeds) for _, pick in decided if pick is not None]
        known = [one for one in lost if one is not None]
        to_end = [_to_end(seconds, pick, warm.speeds, length) for seconds, pick in decided]
        reached = [one for one in to_end if one is not None]
        return Row(
            name,
            decide_s,
            tries,
            tuple(dict.fromkeys(pick for _, pick in decided)),
            statistics.median(known) if known else None,
            decide_s / ours_s,
            statistics.median(reached) if len(reached) == len(decided) else None,
        )

    warm_pick = max(warm.once, key=warm.once.__getitem__)
    found = [
        row("autofit", _decided(parties.autofit), _tries(parties.autofit)),
        row("autofit, the second time", _decided(parties.again), _tries(parties.again)),
        row("everything, warm", [(warm.sweep_s, warm_pick)], f"{warm.probe_count} probes"),
    ]
    if parties.cold_speeds:
        found.append(row("everything, cold", [(parties.cold_s, parties.cold_pick)], f"{len(parties.cold)} jobs"))
    if tuned := _ended(parties.tuned):
        name = "DeepSpeed's autotuner" + (", cut off" if any(one.is_cut_off for one in tuned) else "")
        jobs = statistics.median(one.experiment_count for one in tuned)
        found.append(row(name, [(one.tune_s, one.strategy) for one in tuned], f"{jobs:.0f} jobs"))
    return found


def _ended(tuned: Sequence[Tuned] | str) -> Sequence[Tuned]:
    return () if isinstance(tuned, str) else tuned


def _decided(decisions: Sequence[Decision]) -> list[tuple[float, Strategy | None]]:
    return [(one.decide_s, one.strategy) for one in decisions]


def _to_end(decide_s: float, pick: Strategy | None, speeds: dict[Strategy, Speed], length: Length) -> float | None:
    """What both need beside, from the choice to the first step and from the last to the model, is left out."""
    if pick not in speeds:
        return None
    best_s = length.tokens / speeds[best(speeds)].median
    return (decide_s + length.tokens / speeds[pick].median) / best_s


def _tries(decisions: Sequence[Decision]) -> str:
    probes = statistics.median(one.probe_count for one in decisions)
    rehearsals = statistics.median(one.rehearsal_count for one in decisions)
    return f"{probes:g} probes" + (f", {rehearsals:g} rehearsals" if rehearsals else "")


def aims(parties: Parties, found: list[Row]) -> dict[str, bool | None]:
    """None where it cannot be told."""
    ours, again = found[0], found[1]
    return {
        f"at most {AIM_PROBES} probes": statistics.median(one.probe_count for one in parties.autofit) <= AIM_PROBES,
        f"time to the end at most {AIM_TO_END} times the best one's": (
            None if ours.to_end is None else ours.to_end <= AIM_TO_END
        ),
        f"the second time at most {AIM_AGAIN_S:.0f} s": again.decide_s <= AIM_AGAIN_S,
    }

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


@dataclass(frozen=True)
class _Judge:
    """What decisions are held against."""

    speeds: dict[Strategy, Speed]
    length: Length
    ours_s: float  # autofit's time to decide

    def row(self, name: str, decided: Sequence[tuple[float, Strategy | None]], tries: str) -> Row:
        """`decided` has the seconds and the pick of each round."""
        decide_s = statistics.median(seconds for seconds, _ in decided)
        picks = tuple(dict.fromkeys(pick for _, pick in decided))
        regrets = [None if pick is None else regret(pick, self.speeds) for _, pick in decided]
        to_end = [self._to_end(seconds, pick) for seconds, pick in decided]
        return Row(name, decide_s, tries, picks, _median(regrets), decide_s / self.ours_s, _median(to_end))

    def _to_end(self, decide_s: float, pick: Strategy | None) -> float | None:
        """What both need beside, from the choice to the first step and from the last to the model, is left out."""
        if pick not in self.speeds:
            return None
        best_s = self.length.tokens / self.speeds[best(self.speeds)].median
        return (decide_s + self.length.tokens / self.speeds[pick].median) / best_s


def _median(values: Sequence[float | None]) -> float | None:
    """None where a round has none."""
    known = [value for value in values if value is not None]
    return statistics.median(known) if len(known) == len(values) else None


def rows(parties: Parties, warm: Warm, length: Length) -> list[Row]:
    judge = _Judge(warm.speeds, length, statistics.median(one.decide_s for one in parties.autofit))
    warm_pick = max(warm.once, key=warm.once.__getitem__)
    found = [
        judge.row("autofit", _decided(parties.autofit), _tries(parties.autofit)),
        judge.row("autofit, the second time", _decided(parties.again), _tries(parties.again)),
        judge.row("everything, warm", [(warm.sweep_s, warm_pick)], f"{warm.probe_count} probes"),
    ]
    if parties.cold_speeds:
        found.append(judge.row("everything, cold", [(parties.cold_s, parties.cold_pick)], f"{len(parties.cold)} jobs"))
    if tuned := _ended(parties.tuned):
        name = "DeepSpeed's autotuner" + (", cut off" if any(one.is_cut_off for one in tuned) else "")
        jobs = statistics.median(one.experiment_count for one in tuned)
        found.append(judge.row(name, [(one.tune_s, one.strategy) for one in tuned], f"{jobs:.0f} jobs"))
    return found


def _ended(tuned: Sequence[Tuned] | str) -> Sequence[Tuned]:
    return () if isinstance(tuned, str) else tuned


def _decided(decisions: Sequence[Decision]) -> list[tuple[float, Strategy | None]]:
    return [(one.decide_s, one.strategy) for one in decisions]


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

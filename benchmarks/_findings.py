"""What the parties of the decision benchmark found, one row for each way to decide."""

from __future__ import annotations

from dataclasses import dataclass

from _autofit_run import Decision
from _autotuner import Tuned
from _cold_job import ColdJob
from _verdict import Speed, regret

from autofit.domain.strategy import Strategy

AIM_RATIO, AIM_REGRET, AIM_PROBES = 30.0, 0.02, 4


@dataclass(frozen=True)
class Warm:
    """What warm probes say: each candidate once, and the finalists round by round."""

    sweep_s: float
    probe_count: int
    once: dict[Strategy, float]  # tokens/s of what fits
    speeds: dict[Strategy, Speed]


@dataclass(frozen=True)
class Parties:
    """Who decided what; the autotuner is a sentence where it could not run."""

    autofit: Decision
    again: Decision
    cold: list[ColdJob]
    tuned: Tuned | str

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
        tuned = [self.tuned.strategy] if isinstance(self.tuned, Tuned) and self.tuned.strategy else []
        return [self.autofit.strategy, self.again.strategy, self.cold_pick, *tuned]


@dataclass(frozen=True)
class Row:
    """One way to decide."""

    name: str
    decide_s: float
    tries: str
    pick: Strategy | None
    regret: float | None
    ratio: float  # its time to decide ÷ autofit's


def rows(parties: Parties, warm: Warm) -> list[Row]:
    def row(name: str, decide_s: float, tries: str, pick: Strategy | None) -> Row:
        lost = regret(pick, warm.speeds) if pick else None
        return Row(name, decide_s, tries, pick, lost, decide_s / parties.autofit.decide_s)

    warm_pick = max(warm.once, key=warm.once.__getitem__)
    found = [
        row("autofit", parties.autofit.decide_s, _tries(parties.autofit), parties.autofit.strategy),
        row("autofit, the second time", parties.again.decide_s, _tries(parties.again), parties.again.strategy),
        row("everything, warm", warm.sweep_s, f"{warm.probe_count} probes", warm_pick),
        row("everything, cold", parties.cold_s, f"{len(parties.cold)} jobs", parties.cold_pick),
    ]
    if isinstance(tuned := parties.tuned, Tuned):
        name = "DeepSpeed's autotuner" + (", cut off" if tuned.is_cut_off else "")
        found.append(row(name, tuned.tune_s, f"{tuned.experiment_count} jobs", tuned.strategy))
    return found


def _tries(decision: Decision) -> str:
    rehearsals = f", {decision.rehearsal_count} rehearsals" if decision.rehearsal_count else ""
    return f"{decision.probe_count} probes{rehearsals}"


def aims(parties: Parties, found: list[Row]) -> dict[str, bool | None]:
    """None where it cannot be told; an autotuner that gave up early is no measure, one that was cut off is."""
    lost, tuned = found[0].regret, parties.tuned
    is_measure = isinstance(tuned, Tuned) and (tuned.strategy is not None or tuned.is_cut_off)
    ratio = found[-1].ratio if is_measure else None
    return {
        f"{AIM_RATIO:.0f} times faster than the autotuner": None if ratio is None else ratio >= AIM_RATIO,
        f"regret at most {AIM_REGRET:.0%}": None if lost is None else lost <= AIM_REGRET,
        f"at most {AIM_PROBES} probes": parties.autofit.probe_count <= AIM_PROBES,
    }

"""What a recording says of the estimates: their errors, the order of speeds, and the constants that it would teach."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from _recording import Recording, Row

from autofit.domain.estimate import Constants, Estimate
from autofit.domain.outcome import Measured, OutOfMemory, Place
from autofit.domain.plan import Verdict
from autofit.domain.trial import Trial
from autofit.planning.memory.calibration import calibrate_memory
from autofit.planning.plain_torch import has_communicator
from autofit.planning.plan.fit import judge
from autofit.planning.prior_constants import prior
from autofit.planning.setting import Setting
from autofit.planning.speed.step_time import calibrate_speed

TIE = 0.01
"""Speeds within 1 % of each other are in no order."""

TAU_SLACK = 0.05
"""One pair of ten rows in the wrong order moves tau by 0.04: a better formula may cost as much."""


@dataclass(frozen=True)
class Compared:
    """One measured row beside an estimate of it."""

    row: Row
    measured: Measured
    estimate: Estimate

    @property
    def peak_error(self) -> float:
        """Of all that was taken on the device; above 0 when too much was predicted."""
        return self.estimate.memory.peak_bytes / self.measured.peak_device_bytes - 1

    @property
    def tensors_error(self) -> float | None:
        """Of what tensors held; None where no allocator counted."""
        held, memory = self.measured.peak_allocated_bytes, self.estimate.memory
        return None if held is None else (memory.peak_bytes - memory.runtime_bytes) / held - 1

    @property
    def outside_bytes(self) -> int | None:
        """What the driver saw beyond the runtime before the build and the allocator: NCCL, kernels loaded since."""
        seen = self.row.driver_bytes
        return None if seen is None else seen - self.measured.peak_device_bytes

    @property
    def is_above(self) -> bool:
        """More was needed than the interval allows: the one error that costs a user a crash."""
        return self.measured.peak_device_bytes > self.estimate.memory.high_bytes

    @property
    def is_inside(self) -> bool:
        return not self.is_above and self.measured.peak_device_bytes >= self.estimate.memory.low_bytes

    @property
    def speed_error(self) -> float:
        return self.predicted_tokens_per_s / self.measured_tokens_per_s - 1

    @property
    def predicted_tokens_per_s(self) -> float:
        """Of each rank, so that many ranks do not put the rows in order by themselves."""
        return self.estimate.speed.tokens_per_s / self.row.configuration.rank_count

    @property
    def measured_tokens_per_s(self) -> float:
        return self.measured.tokens_per_s / self.row.configuration.rank_count


def compare(recording: Recording, constants: Constants | None = None) -> tuple[Compared, ...]:
    """Today's estimates of what was measured; `constants` None: those that hold before anything is fitted."""
    return tuple(
        Compared(row, row.measured, recording.estimate(row.configuration, constants))
        for row in recording.rows
        if row.measured is not None
    )


def as_recorded(recording: Recording) -> tuple[Compared, ...]:
    """The estimates of the day of the recording."""
    return tuple(Compared(row, row.measured, row.trial.estimate) for row in recording.rows if row.measured is not None)


def fitted(recording: Recording) -> Constants:
    """The median of what each measured row alone would teach: the rows' settings differ, a refit has one."""
    start = prior(recording.hardware.devices[0])
    pairs = [(row.trial, recording.setting(row.configuration)) for row in recording.measured]
    if not pairs:
        return start
    alone = [pair for pair in pairs if _is_alone(*pair)]
    runtimes = [calibrate_memory(start, [trial], setting).runtime_bytes for trial, setting in alone]
    runtime_bytes = round(statistics.median(runtimes or [start.runtime_bytes]))
    known = replace(start, runtime_bytes=runtime_bytes)
    memory = [calibrate_memory(known, [trial], setting) for trial, setting in pairs]
    shared = [each for each, pair in zip(memory, pairs, strict=True) if not _is_alone(*pair)] or [start]
    speed = [calibrate_speed(start, [trial], setting) for trial, setting in pairs]
    speed = [each for each in speed if each.fitted_from] or [start]
    return replace(
        start,
        runtime_bytes=runtime_bytes,
        communicator_bytes=round(statistics.median(each.communicator_bytes for each in shared)),
        fragmentation=statistics.median(each.fragmentation for each in memory),
        matmul_efficiency=statistics.median(each.matmul_efficiency for each in speed),
        bandwidth_efficiency=statistics.median(each.bandwidth_efficiency for each in speed),
        fitted_from=len(pairs),
    )


def _is_alone(trial: Trial, setting: Setting) -> bool:
    return trial.is_rehearsal or not has_communicator(trial.strategy.rung, setting)


def figures(compared: Sequence[Compared]) -> dict[str, Any]:
    """Percentages are of the absolute errors."""
    if not compared:
        return {"row_count": 0}
    tensors = [each.tensors_error for each in compared]
    outside_bytes = [each.outside_bytes for each in compared if each.outside_bytes is not None]
    return {
        "row_count": len(compared),
        "peak": spread([each.peak_error for each in compared]),
        "tensors": spread([error for error in tensors if error is not None]),
        "beyond_interval": [str(each.row.configuration) for each in compared if each.is_above],
        "below_interval": [str(each.row.configuration) for each in compared if not (each.is_inside or each.is_above)],
        "outside_the_allocator_bytes": outside_bytes and round(statistics.median(outside_bytes)),
        "speed": spread([each.speed_error for each in compared]) if _is_absolute(compared) else None,
        "kendall_tau": {name: round(tau, 3) for name, tau in taus(compared).items()},
    }


def regressions(recording: Recording) -> list[str]:
    """Where today's estimates are worse than those of the day of the recording, one sentence each.

    A measured peak that lay within its interval lies outside now, a verdict is wrong now, or the order of a model's
    speeds is told less well.
    """
    then, now = as_recorded(recording), compare(recording)
    lost = [
        f"{new.row.configuration}: {new.measured.peak_device_bytes:,} bytes are no longer between "
        f"{new.estimate.memory.low_bytes:,} and {new.estimate.memory.high_bytes:,}"
        for old, new in zip(then, now, strict=True)
        if old.is_inside and not new.is_inside
    ]
    wrong_then, wrong_now = (
        wrong_verdicts(recording.rows),
        wrong_verdicts([judged(row, recording) for row in recording.rows]),
    )
    lost += [f"{name}: what the plan says without a probe is wrong now" for name in wrong_now if name not in wrong_then]
    before, after = taus(then), taus(now)
    return lost + [
        f"{model}: Kendall's tau of its speeds was {before[model]:.3f} and is {after[model]:.3f}"
        for model in before
        if after[model] < before[model] - TAU_SLACK
    ]


def _is_absolute(compared: Sequence[Compared]) -> bool:
    return all(each.estimate.speed.is_absolute for each in compared)


def spread(errors: Sequence[float]) -> dict[str, float] | None:
    if not errors:
        return None
    sizes = sorted(abs(error) for error in errors)
    found = {
        "median_percent": statistics.median(sizes),
        "p95_percent": sizes[max(0, -(-95 * len(sizes) // 100) - 1)],
        "lowest_percent": min(errors),
        "highest_percent": max(errors),
    }
    return {name: round(100 * share, 2) for name, share in found.items()}


def taus(compared: Sequence[Compared]) -> dict[str, float]:
    """Of each model with two rows at least: do the predictions put its rows in the order of their speeds?"""
    models = dict.fromkeys(each.row.configuration.model for each in compared)
    found = {}
    for model in models:
        pairs = [
            (each.predicted_tokens_per_s, each.measured_tokens_per_s)
            for each in compared
            if each.row.configuration.model == model
        ]
        if (tau := kendall_tau(pairs)) is not None:
            found[model] = tau
    return found


def kendall_tau(pairs: Sequence[tuple[float, float]]) -> float | None:
    """(concordant - discordant) ÷ all pairs whose measured values differ by more than `TIE`; None where none does."""
    signs = []
    for (one, one_seen), (other, other_seen) in combinations(pairs, 2):
        if (seen := _order(one_seen, other_seen)) != 0:
            signs.append(seen * _order(one, other))
    return sum(signs) / len(signs) if signs else None


def _order(one: float, other: float) -> int:
    if abs(one - other) <= TIE * max(one, other):
        return 0
    return 1 if one > other else -1


def judged(row: Row, recording: Recording) -> Row:
    """With today's verdict."""
    estimate, setting = recording.estimate(row.configuration), recording.setting(row.configuration)
    return replace(row, verdict=judge(row.trial.strategy, estimate, setting).verdict)


def wrong_verdicts(rows: Sequence[Row]) -> list[str]:
    """Rows that the plan would have judged wrongly without a probe."""
    return [str(row.configuration) for row in rows if _is_wrong(row)]


def _is_wrong(row: Row) -> bool:
    outcome = row.trial.outcome
    if row.verdict is Verdict.FITS:
        return isinstance(outcome, OutOfMemory) and outcome.place is Place.DEVICE
    return row.verdict is Verdict.TOO_LARGE and isinstance(outcome, Measured)

"""How far measured speeds may lie from the true ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import median

from autofit.domain.outcome import Measured
from autofit.domain.trial import Trial
from autofit.planning.energy_window import MOST_ERROR
from autofit.planning.probe_steps import MAX_MEASURED_STEPS

SPEED_NOISE = 0.01
"""Relative standard deviation of a measured speed at least: two probes of one strategy, a second or two each."""

MEMORY_NOISE = 0.002
"""The same of the device's memory: two probes of one strategy."""

ENERGY_NOISE = 0.5 * MOST_ERROR
"""Relative standard deviation of a counted energy: what is told errs by MOST_ERROR at most."""

DOUBT = 3.0
"""Standard deviations of the difference of two speeds beyond which there is no doubt of it: 1 in 700 lies so far off by
chance."""

BUSY = 0.05
"""The relative error of a speed from which on something else seems to use the machine: on two idle CPU cores steps
spread over 8 to 18 % now and then, so that five of them tell their mean within 5 %."""


def speed_noise(measured: Measured) -> float:
    """The relative standard deviation of a measured speed: as its own steps spread, and no less than between probes."""
    return max(SPEED_NOISE, measured.speed_error or 0.0)


def seen_noise(measured: Measured, trials: Iterable[Trial]) -> float:
    """The same where its probe may have ended after a single step, whose spread the other `trials` tell."""
    return step_noise(trials) if measured.is_outpaced else speed_noise(measured)


def together(probes: Sequence[Measured]) -> Measured:
    """What whole probes of one strategy say together: the mean of their speeds, each counted by its noise (inverse
    variance), and the largest of their peaks; all else as the last has it."""
    *_, last = probes
    weights = [speed_noise(one) ** -2 for one in probes]
    tokens_per_s = sum(w * one.tokens_per_s for w, one in zip(weights, probes, strict=True)) / sum(weights)
    slower = last.tokens_per_s / tokens_per_s
    return replace(
        last,
        peak_device_bytes=max(one.peak_device_bytes for one in probes),
        peak_host_bytes=max(one.peak_host_bytes for one in probes),
        tokens_per_s=tokens_per_s,
        step_s=last.step_s * slower,
        micro_step_s=last.micro_step_s * slower,
        update_s=last.update_s * slower,
        speed_error=sum(weights) ** -0.5,
        step_count=sum(one.step_count or 0 for one in probes) or None,
    )


def step_noise(trials: Iterable[Trial]) -> float:
    """The relative standard deviation of the speed of a single step: the median of those whose steps were several."""
    measured = [trial.outcome for trial in trials if isinstance(trial.outcome, Measured)]
    return max(SPEED_NOISE, median([_spread(one) for one in measured if one.speed_error is not None] or [0.0]))


def _spread(measured: Measured) -> float:
    return (measured.speed_error or 0.0) * math.sqrt(measured.step_count or MAX_MEASURED_STEPS)


def outpacing(best: Measured, trials: Iterable[Trial]) -> float:
    """The tokens/s below which a single step tells that its strategy is slower than `best`, beyond doubt."""
    return best.tokens_per_s * math.exp(-DOUBT * math.hypot(speed_noise(best), step_noise(trials)))


def next_noise(trials: Iterable[Trial]) -> float:
    """What the next probe's speed is expected to have: the median of those so far."""
    measured = [trial.outcome for trial in trials if isinstance(trial.outcome, Measured)]
    seen = [speed_noise(one) for one in measured if not one.is_outpaced]
    return median(seen) if seen else SPEED_NOISE


def busy_text(trial: Trial) -> str | None:
    """What people are told where a trial's steps differ too much; None where they do not."""
    outcome = trial.outcome
    if not isinstance(outcome, Measured) or outcome.speed_error is None or outcome.speed_error < BUSY:
        return None
    return (
        f"the steps of {trial.strategy} differ so much that its speed is known to ±{outcome.speed_error:.0%} only: if "
        "something else uses this machine, the search cannot tell small differences"
    )

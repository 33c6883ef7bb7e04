"""Predicted duration of an optimizer step: a roofline, corrected by what was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from statistics import median

from autofit.domain.estimate import Constants, SpeedEstimate
from autofit.domain.outcome import Measured
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Trial
from autofit.planning.memory.device_share import sized_for
from autofit.planning.setting import Setting

from .clearing import clearing_s, exact_chance
from .communication import communication_s
from .compute import accumulation_s, micro_step, pass_count, update_s
from .generation import generation_s
from .offloading import offload_s
from .rates import is_rated, rates_of

LARGEST_LOG = math.log(100)
BISECTIONS = 30
"""A factor of 100 either way, to within a millionth."""


def estimate_speed(strategy: Strategy, setting: Setting) -> SpeedEstimate:
    """Predicts one optimizer step of the global batch, with batches of typical width; tokens are real ones, without
    padding.

    Known error where nothing was fitted (benchmarks/published.py): within 15 % of nine in ten published runs on A100
    and H100, 20 % too slow on two cards that talk over PCIe; 1.25 to 1.55 times too fast on 8 × A800, for no reason
    that we know. Ratios err less.
    """
    rates = rates_of(setting.hardware)
    seconds = micro_step(strategy, setting, rates)
    compute_s = (
        pass_count(strategy, setting) * seconds.total_s
        + accumulation_s(strategy, setting, rates)
        + generation_s(strategy, setting, rates)
    )
    return SpeedEstimate(
        tokens_per_step=setting.request.sequences(setting.request.global_batch)
        * (setting.mean_tokens or float(setting.worst_tokens)),
        compute_s=compute_s,
        communication_s=communication_s(strategy, setting, rates, seconds),
        offload_s=offload_s(strategy, setting, rates, seconds),
        update_s=update_s(strategy, setting, rates),
        is_absolute=is_rated(setting.hardware) or setting.constants.fitted_from > 0,
        clearing_s=clearing_s(compute_s, exact_chance(strategy, setting)),
    )


def calibrate_speed(constants: Constants, trials: Iterable[Trial], setting: Setting) -> Constants:
    """The constants with both efficiencies corrected by one factor: the median of what the measured trials say.

    Both, because a probe's time does not tell products from the rest; on a device whose rates are nominal they may come
    out above 1. Trials that mostly communicate or offload say nothing of them. Unchanged when no other is there.
    """
    logs = []
    for trial in trials:
        sized = sized_for(trial.strategy, setting)
        if isinstance(trial.outcome, Measured) and _mostly_computes(trial, sized, constants):
            logs.append(_log_slowness(trial, trial.outcome.tokens_per_s, sized, constants))
    if not logs:
        return constants
    fitted = replace(constants, fitted_from=max(constants.fitted_from, len(logs)))
    return _slowed(fitted, math.exp(median(logs)))


def _slowed(constants: Constants, factor: float) -> Constants:
    return replace(
        constants,
        matmul_efficiency=constants.matmul_efficiency / factor,
        bandwidth_efficiency=constants.bandwidth_efficiency / factor,
    )


def _mostly_computes(trial: Trial, setting: Setting, constants: Constants) -> bool:
    predicted = _predicted(trial, setting, constants)
    return 2 * (predicted.compute_s + predicted.update_s) > predicted.step_s


def _log_slowness(trial: Trial, tokens_per_s: float, setting: Setting, constants: Constants) -> float:
    """Logarithm of the factor at which the prediction meets the measured speed, by bisection: speed falls with it."""
    low, high = -LARGEST_LOG, LARGEST_LOG
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if _predicted(trial, setting, _slowed(constants, math.exp(middle))).tokens_per_s > tokens_per_s:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _predicted(trial: Trial, setting: Setting, constants: Constants) -> SpeedEstimate:
    """The speed that is predicted for a trial as it ran: a rehearsal has no neighbours to talk to."""
    predicted = estimate_speed(trial.strategy, replace(setting, known_constants=constants))
    return replace(predicted, communication_s=0.0) if trial.is_rehearsal else predicted

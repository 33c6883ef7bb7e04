"""Rows of what was or is probed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from autofit.domain.outcome import Measured, Phase
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.trial import Trial
from autofit.report.line import Style
from autofit.report.outcome_text import verdict_style, verdict_text
from autofit.report.ratios import rated, ratio_texts
from autofit.report.view import Probing, View, is_outpaced

from .ladder_row import Row
from .predicted_rows import estimate_of, predicted_row

_DOING = {
    Phase.START: "starting",
    Phase.BUILD: "building",
    Phase.INITIALIZE: "set-up",
    Phase.GENERATE: "generate",
    Phase.REWARD: "reward",
    Phase.FORWARD: "forward",
    Phase.REFERENCE: "reference",
    Phase.BACKWARD: "backward",
    Phase.STEP: "step",
    Phase.EVALUATE: "evaluate",
    Phase.SAVE: "saving",
    Phase.SCRIPT: "running",
}


def tried_rows(view: View, now_s: float) -> list[Row]:
    """What was or is probed, rung by rung in the order of the first probe."""
    return [row for rung in view.tried for row in _rung_rows(view, rung, now_s)]


def _rung_rows(view: View, rung: Rung, now_s: float) -> Iterator[Row]:
    trials = [trial for trial in view.trials if trial.strategy.rung == rung]
    probed = [trial for trial in trials if view.has_fit(trial) and not trial.is_rehearsal]
    fitting = probed or [trial for trial in trials if view.has_fit(trial)]
    failed = [trial for trial in trials if not view.has_fit(trial)]
    if fitting:
        yield _measured_row(view, _shown(view, fitting))
    if failed:
        smallest = min(failed, key=lambda trial: trial.strategy.micro_batch)
        yield _failed_row(view, smallest)
    for probing in view.probing:
        if probing.strategy.rung == rung:
            yield _probing_row(view, probing, now_s)


def _shown(view: View, fitting: list[Trial]) -> Trial:
    """The chosen trial of a rung if there is one, with what all looks at it say together, otherwise the best by what is
    looked for."""
    choice = view.choice
    chosen = [] if choice is None else [trial for trial in fitting if trial.strategy == choice.strategy]
    if choice is None or choice.measured is None or not chosen:
        return max(chosen or fitting, key=view.merit)
    return replace(chosen[-1], outcome=choice.measured)


def _measured_row(view: View, trial: Trial) -> Row:
    assert isinstance(trial.outcome, Measured)
    state, style = _measured_state(view, trial)
    strategy, outcome = trial.strategy, trial.outcome
    return Row(
        str(strategy.rung), _micro(strategy), state, style,
        memory_bytes=outcome.peak_device_bytes, tokens_per_s=outcome.tokens_per_s,
        ratios=ratio_texts(rated(trial, view.kind), view.baseline),
    )  # fmt: skip


def _measured_state(view: View, trial: Trial) -> tuple[str, Style]:
    if trial.is_rehearsal:
        return "rehearsed", Style.QUIET
    if is_outpaced(trial):
        return "slower, 1 step", Style.QUIET
    if view.choice is not None:
        return ("chosen", Style.GOOD) if trial.strategy == view.choice.strategy else ("measured", Style.PLAIN)
    best = view.leading
    return ("best so far", Style.GOOD) if best == trial else ("measured", Style.PLAIN)


def _failed_row(view: View, trial: Trial) -> Row:
    message = verdict_text(trial.outcome, view.device_memory_bytes)
    return Row(
        str(trial.strategy.rung), _micro(trial.strategy), "probed", verdict_style(trial.outcome), message=message
    )


def _probing_row(view: View, probing: Probing, now_s: float) -> Row:
    elapsed_s = max(int(now_s - probing.since_s), 0)
    state = f"{_DOING[probing.phase]} {elapsed_s // 60}:{elapsed_s % 60:02d}"
    return predicted_row(view, probing.strategy, estimate_of(view, probing.strategy), state, Style.LABEL)


def _micro(strategy: Strategy) -> str:
    return f"mb{strategy.micro_batch}"

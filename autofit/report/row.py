"""The rows of the ladder table, before they are laid out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autofit.domain.estimate import Estimate
from autofit.domain.ladder import Step
from autofit.domain.outcome import Measured
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.trial import Trial
from autofit.domain.units import format_bytes

from .line import Style
from .verdict import PHASES, verdict_style, verdict_text
from .view import Probing, View, tokens_per_s


@dataclass(frozen=True)
class Row:
    """A rung at one micro-batch: memory and speed, or a message in their place."""

    name: str
    micro_batch: str
    state: str
    style: Style
    memory_bytes: int | None = None
    is_predicted: bool = False
    tokens_per_s: float | None = None
    message: str = ""

    @property
    def memory_text(self) -> str:
        return "" if self.memory_bytes is None else ("~" if self.is_predicted else "") + format_bytes(self.memory_bytes)

    @property
    def tokens_text(self) -> str:
        if self.tokens_per_s is None:
            return ""
        return f"~{_rounded(self.tokens_per_s):,}" if self.is_predicted else f"{self.tokens_per_s:,.0f}"


def _rounded(value: float) -> int:
    """Two significant figures: a prediction knows no more."""
    return int(float(f"{value:.1e}"))


def tried_rows(view: View, now_s: float) -> list[Row]:
    """What was or is probed, rung by rung in the order of the first probe."""
    return [row for rung in view.tried for row in _rung_rows(view, rung, now_s)]


def _rung_rows(view: View, rung: Rung, now_s: float) -> Iterator[Row]:
    trials = [trial for trial in view.trials if trial.strategy.rung == rung]
    fitting = [trial for trial in trials if isinstance(trial.outcome, Measured)]
    failed = [trial for trial in trials if not isinstance(trial.outcome, Measured)]
    if fitting:
        yield _measured_row(view, _shown(view, fitting))
    if failed:
        smallest = min(failed, key=lambda trial: trial.strategy.micro_batch)
        yield _failed_row(view, smallest)
    for probing in view.probing:
        if probing.strategy.rung == rung:
            yield _probing_row(view, probing, now_s)


def _shown(view: View, fitting: list[Trial]) -> Trial:
    """The chosen trial of a rung if there is one, otherwise its fastest."""
    chosen = [trial for trial in fitting if view.choice is not None and trial.strategy == view.choice.strategy]
    return chosen[-1] if chosen else max(fitting, key=tokens_per_s)


def _measured_row(view: View, trial: Trial) -> Row:
    assert isinstance(trial.outcome, Measured)
    state, style = _measured_state(view, trial)
    strategy, outcome = trial.strategy, trial.outcome
    return Row(
        str(strategy.rung), _micro(strategy), state, style,
        memory_bytes=outcome.peak_device_bytes, tokens_per_s=outcome.tokens_per_s,
    )  # fmt: skip


def _measured_state(view: View, trial: Trial) -> tuple[str, Style]:
    if view.choice is not None:
        return ("chosen", Style.GOOD) if trial.strategy == view.choice.strategy else ("measured", Style.PLAIN)
    best = view.best()
    return ("best so far", Style.GOOD) if best == trial else ("measured", Style.PLAIN)


def _failed_row(view: View, trial: Trial) -> Row:
    message = verdict_text(trial.outcome, view.device_memory_bytes)
    return Row(
        str(trial.strategy.rung), _micro(trial.strategy), "probed", verdict_style(trial.outcome), message=message
    )


def _probing_row(view: View, probing: Probing, now_s: float) -> Row:
    elapsed_s = max(int(now_s - probing.since_s), 0)
    state = f"{PHASES[probing.phase]} {elapsed_s // 60}:{elapsed_s % 60:02d}"
    return _predicted_row(view, probing.strategy, _estimate(view, probing.strategy), state, Style.LABEL)


def waiting_rows(view: View, state: str) -> list[Row]:
    """Rungs of the ladder that were not tried, each at the largest micro-batch that is predicted to fit."""
    steps = view.ladder.steps if view.ladder is not None else ()
    decided = {rest.rung for rest in view.choice.unprobed} if view.choice is not None else set()
    done = decided | set(view.tried)
    return [_waiting_row(view, step, state) for step in steps if step.rung not in done and step.strategies]


def _waiting_row(view: View, step: Step, state: str) -> Row:
    limit_bytes = view.device_memory_bytes or 0
    pairs = list(zip(step.strategies, step.estimates, strict=True))
    fitting = [pair for pair in pairs if pair[1].memory.peak_bytes <= limit_bytes]
    strategy, estimate = (fitting or pairs[:1])[-1]
    return _predicted_row(view, strategy, estimate, state, Style.QUIET)


def _predicted_row(view: View, strategy: Strategy, estimate: Estimate | None, state: str, style: Style) -> Row:
    return Row(
        str(strategy.rung), _micro(strategy), state, style,
        memory_bytes=None if estimate is None else estimate.memory.peak_bytes,
        is_predicted=True,
        tokens_per_s=None if estimate is None else _predicted_tokens_per_s(view, strategy, estimate),
    )  # fmt: skip


def _predicted_tokens_per_s(view: View, strategy: Strategy, estimate: Estimate) -> float | None:
    """From the best trial of the same method: costs of different methods have different units."""
    best = view.best(strategy.rung.method)
    return None if best is None else tokens_per_s(best) * best.estimate.cost.expected / estimate.cost.expected


def _estimate(view: View, strategy: Strategy) -> Estimate | None:
    for step in view.ladder.steps if view.ladder is not None else ():
        if strategy in step.strategies:
            return step.estimate(strategy)
    return None


def _micro(strategy: Strategy) -> str:
    return f"mb{strategy.micro_batch}"

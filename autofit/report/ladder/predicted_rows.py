"""Rows of what is predicted only."""

from __future__ import annotations

from autofit.domain.efficiency import Cost, Rated
from autofit.domain.estimate import Estimate
from autofit.domain.ladder import Step
from autofit.domain.strategy import Strategy
from autofit.planning.predicted_merit import predicted_merit
from autofit.report.line import Style
from autofit.report.ratios import ratio_texts
from autofit.report.view import View, tokens_per_s

from .families import Entry, opened
from .ladder_row import Row


def waiting_steps(view: View) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """The steps of the ladder that were not tried: those that have a row, and those that are folded."""
    steps = view.ladder.steps if view.ladder is not None else ()
    decided = {rest.rung for rest in view.choice.unprobed} if view.choice is not None else set()
    done = decided | set(view.tried)
    waiting = [step for step in steps if step.rung not in done and step.strategies]
    lines = opened([Entry(step.rung, is_kept=_is_chosen(view, step)) for step in waiting])
    return (
        tuple(step for step in waiting if step.rung in lines),
        tuple(step for step in waiting if step.rung not in lines),
    )


def waiting_row(view: View, step: Step, state: str) -> Row:
    """A step that was not tried, at the largest micro-batch that is predicted to fit, or the best one where memory
    counts."""
    return _chosen_row(view, step) or _untried_row(view, step, state)


def _is_chosen(view: View, step: Step) -> bool:
    return view.choice is not None and view.choice.strategy in step.strategies


def _chosen_row(view: View, step: Step) -> Row | None:
    """The row of the choice where it was not probed; None for another rung."""
    if view.choice is None or not _is_chosen(view, step):
        return None
    strategy = view.choice.strategy
    return predicted_row(view, strategy, step.estimate(strategy), "chosen", Style.GOOD)


def unseen_choice_rows(view: View) -> list[Row]:
    """The row of a choice of which nothing was tried, without its estimate: of a run that is shown again, without its
    ladder."""
    if view.choice is None or view.ladder is not None or view.choice.strategy.rung in view.tried:
        return []
    return [predicted_row(view, view.choice.strategy, None, "chosen", Style.GOOD)]


def _untried_row(view: View, step: Step, state: str) -> Row:
    limit_bytes = view.device_memory_bytes or 0
    pairs = list(zip(step.strategies, step.estimates, strict=True))
    fitting = [pair for pair in pairs if pair[1].memory.peak_bytes <= limit_bytes]
    strategy, estimate = (fitting or pairs[:1])[-1]
    if fitting and view.objective.counts_memory:
        strategy, estimate = max(fitting, key=lambda pair: predicted_merit(pair[1], view.objective))
    return predicted_row(view, strategy, estimate, state, Style.QUIET)


def predicted_row(view: View, strategy: Strategy, estimate: Estimate | None, state: str, style: Style) -> Row:
    """A row for `strategy`; without an estimate it has a name only."""
    peak_bytes = None if estimate is None else estimate.memory.peak_bytes
    speed = None if estimate is None else _predicted_tokens_per_s(view, strategy, estimate)
    return Row(
        str(strategy.rung), f"mb{strategy.micro_batch}", state, style,
        memory_bytes=peak_bytes,
        is_predicted=True,
        tokens_per_s=speed,
        ratios=_predicted_ratios(view, strategy, speed, peak_bytes),
    )  # fmt: skip


def _predicted_ratios(
    view: View, strategy: Strategy, tokens_per_s: float | None, peak_bytes: int | None
) -> tuple[str, ...]:
    if tokens_per_s is None or peak_bytes is None:
        return ()
    return ratio_texts(Rated(strategy, Cost(1 / tokens_per_s, peak_bytes, is_measured=False)), view.baseline)


def _predicted_tokens_per_s(view: View, strategy: Strategy, estimate: Estimate) -> float | None:
    """The speed that is predicted from the best trial of the same method, which is nearest, or else of the other
    one."""
    best = view.best(strategy.rung.method) or view.best()
    return None if best is None else tokens_per_s(best) * estimate.speed.tokens_per_s / best.estimate.speed.tokens_per_s


def estimate_of(view: View, strategy: Strategy) -> Estimate | None:
    """The estimate of a strategy, None when it is not in the ladder."""
    for step in view.ladder.steps if view.ladder is not None else ():
        if strategy in step.strategies:
            return step.estimate(strategy)
    return None

"""Whether a script takes as many optimizer steps, with the same learning rates, whatever its micro-batch is."""

from __future__ import annotations

import math

from autofit.domain.script import Ask, Counting, ScriptFacts

from .tunable_knobs import TunableKnobs, keep_micro_batch

_COUNTS_STEPS = {Ask.STEPS, Ask.TRAINER}


def combine_countings(first: Counting, second: Counting) -> Counting:
    """What two looks at a script, with different micro-batches, say together."""
    return Counting(
        asks=tuple(ask for ask in Ask if ask in (*first.asks, *second.asks)),
        epoch_rows=second.epoch_rows if first.epoch_rows is None else first.epoch_rows,
        learning_rates=first.learning_rates or second.learning_rates,
        has_rate_of_batches=first.has_rate_of_batches or second.has_rate_of_batches or _differ(first, second),
    )


def why_steps_may_change(facts: ScriptFacts) -> str | None:
    """Says in one clause why the steps may change; None where they stay as they are.

    A loop over an epoch takes rows // (micro-batch x accumulation) steps, which is the same for every micro-batch where
    nothing is left over.
    """
    counting = facts.counting
    if counting.has_rate_of_batches and Ask.TRAINER not in counting.asks:
        return "the script's learning rate moves with its batches, not with its optimizer steps"
    if not _COUNTS_STEPS.isdisjoint(counting.asks):
        return None
    if not counting.asks:
        return "the script was not seen to count optimizer steps, only batches"
    if counting.epoch_rows is None:
        return "the rows of its epoch cannot be counted, and with them its optimizer steps"
    if counting.epoch_rows % facts.rank_rows:
        return f"an epoch of {counting.epoch_rows} rows on a rank is no whole number of steps of {facts.rank_rows}"
    return None


def keep_steps(knobs: TunableKnobs, facts: ScriptFacts) -> TunableKnobs:
    """Keeps the micro-batch where optimizer steps could change with it, unless the user has overridden that."""
    why = why_steps_may_change(facts)
    return knobs if why is None else keep_micro_batch(knobs, facts, why)


def overridden_steps(knobs: TunableKnobs, facts: ScriptFacts) -> tuple[str, ...]:
    """A loud sentence where the micro-batch is tuned although optimizer steps could change with it."""
    why = why_steps_may_change(facts)
    if why is None or not knobs.can_tune_micro_batch:
        return ()
    return (f"--autofit-override micro-batch: OPTIMIZER STEPS AND LEARNING RATE MAY CHANGE WITH IT: {why}",)


def _differ(first: Counting, second: Counting) -> bool:
    pairs = zip(first.learning_rates, second.learning_rates, strict=False)  # one may have taken fewer steps
    return not all(math.isclose(one, other, rel_tol=1e-9) for one, other in pairs)

"""Whether a trainer learns the same whatever its micro-batch is."""

from __future__ import annotations

from autofit.domain.script import ScriptFacts, Tie

from .tunable_knobs import TunableKnobs, keep_micro_batch

_WHY = {
    Tie.LOSS: "the loss mixes the rows of a micro-batch",
    Tie.STEPS_PER_GENERATION: "steps_per_generation counts micro-batches; give generation_batch_size to have it turned",
    Tie.GENERATION_BATCH: "generation_batch_size is no whole number of global batches",
}


def keep_tied(knobs: TunableKnobs, facts: ScriptFacts) -> TunableKnobs:
    """Keeps the micro-batch where another would teach something else, unless the user has overridden that."""
    return knobs if facts.tie is None else keep_micro_batch(knobs, facts, _WHY[facts.tie])


def overridden_tie(knobs: TunableKnobs, facts: ScriptFacts) -> tuple[str, ...]:
    """A loud sentence where the micro-batch is tuned although something else is learned with it."""
    if facts.tie is None or not knobs.can_tune_micro_batch or facts.rank_rows == 1:
        return ()
    return (f"--autofit-override micro-batch: WHAT IS LEARNED MAY CHANGE WITH IT: {_WHY[facts.tie]}",)

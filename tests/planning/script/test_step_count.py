"""Whether optimizer steps stay what they are when the micro-batch is turned."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.deepspeed_line import Override
from autofit.domain.script import Ask, Counting
from autofit.planning.script.inspection import complete_facts
from autofit.planning.script.step_count import combine_countings, keep_steps, overridden_steps, why_steps_may_change
from autofit.planning.script.tunable_knobs import tunable_knobs
from tests.planning.script.test_config_rewriter import FACTS, NOTHING, PLAIN

BOUNDARY = (Ask.BOUNDARY,)


@pytest.mark.parametrize(
    ("counting", "why"),
    [
        (Counting((Ask.STEPS,)), None),
        (Counting((Ask.TRAINER,)), None),
        (Counting(BOUNDARY, epoch_rows=160), None),
        (Counting((Ask.ACCUMULATION,), epoch_rows=16), None),
        (Counting(), "only batches"),
        (Counting(epoch_rows=160), "only batches"),
        (Counting(BOUNDARY), "cannot be counted"),
        (Counting(BOUNDARY, epoch_rows=161), "161 rows on a rank is no whole number of steps of 16"),
        (Counting((Ask.STEPS,), has_rate_of_batches=True), "learning rate moves with its batches"),
    ],
)
def test_why_steps_may_change(counting: Counting, why: str | None) -> None:
    said = why_steps_may_change(replace(FACTS, counting=counting))
    assert (said is None) if why is None else (said is not None and why in said)


def test_a_micro_batch_that_decides_the_steps_stays_unless_it_is_overridden() -> None:
    facts = replace(FACTS, counting=Counting())
    kept = keep_steps(tunable_knobs(PLAIN, (), NOTHING), facts)
    assert not kept.can_tune_micro_batch
    assert "the micro-batch stays 8" in kept.notes[-1]
    assert "--autofit-override micro-batch" in kept.notes[-1]
    assert overridden_steps(kept, facts) == ()
    turned = keep_steps(tunable_knobs(PLAIN, (), frozenset({Override.MICRO_BATCH})), facts)
    assert turned.can_tune_micro_batch
    assert "MAY CHANGE" in overridden_steps(turned, facts)[0]


def test_a_rank_with_one_row_has_nothing_to_turn() -> None:
    facts = replace(FACTS, counting=Counting(), micro_batch=1, gradient_accumulation=1)
    knobs = tunable_knobs(PLAIN, (), NOTHING)
    assert keep_steps(knobs, facts) == knobs


def test_two_looks_say_together_how_it_counts() -> None:
    own, lean = Counting(BOUNDARY, None, (0.1, 0.2, 0.3)), Counting((Ask.STEPS,), 160, (0.1, 0.2))
    assert combine_countings(own, lean) == Counting((Ask.STEPS, Ask.BOUNDARY), 160, (0.1, 0.2, 0.3))
    assert combine_countings(own, replace(lean, learning_rates=(0.1, 0.25))).has_rate_of_batches
    facts, _ = complete_facts(FACTS, tunable_knobs(PLAIN, (), NOTHING), replace(FACTS, counting=Counting(BOUNDARY)))
    assert facts.counting.asks == (Ask.BOUNDARY, Ask.TRAINER)

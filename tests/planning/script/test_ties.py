"""A micro-batch that decides what is learned stays."""

from __future__ import annotations

import json

import pytest

from autofit.domain.deepspeed_line import Override
from autofit.domain.hardware import DeviceKind
from autofit.domain.script import Tie
from autofit.domain.strategy import Strategy
from autofit.planning.script.config_rewriter import ConfigRewriter
from autofit.planning.script.ties import keep_tied, overridden_tie
from autofit.planning.script.tunable_knobs import tunable_knobs
from tests.builders import make_facts, make_rung
from tests.planning.script.test_config_rewriter import HF, HF_WORDS, NOTHING, PLAIN


@pytest.mark.parametrize(
    ("tie", "why"),
    [
        (Tie.LOSS, "the loss mixes the rows of a micro-batch"),
        (Tie.STEPS_PER_GENERATION, "steps_per_generation counts micro-batches"),
        (Tie.GENERATION_BATCH, "generation_batch_size is no whole number of global batches"),
    ],
)
def test_a_tied_micro_batch_stays_unless_it_is_overridden(tie: Tie, why: str) -> None:
    facts = make_facts(tie=tie)
    kept = keep_tied(tunable_knobs(PLAIN, (), NOTHING), facts)
    assert not kept.can_tune_micro_batch
    assert f"the micro-batch stays 8: {why}" in kept.notes[-1]
    assert overridden_tie(kept, facts) == ()
    turned = keep_tied(tunable_knobs(PLAIN, (), frozenset({Override.MICRO_BATCH})), facts)
    assert turned.can_tune_micro_batch
    assert f"WHAT IS LEARNED MAY CHANGE WITH IT: {why}" in overridden_tie(turned, facts)[0]


def test_nothing_is_kept_or_said_where_nothing_is_tied() -> None:
    knobs = tunable_knobs(PLAIN, (), NOTHING)
    assert keep_tied(knobs, make_facts()) == knobs
    assert overridden_tie(knobs, make_facts()) == ()
    alone = make_facts(tie=Tie.LOSS, micro_batch=1, gradient_accumulation=1)
    assert keep_tied(knobs, alone) == knobs, "a rank with one row has nothing to turn"
    assert overridden_tie(knobs, alone) == ()


@pytest.mark.parametrize(("generates", "accumulation"), [(False, 3), (True, 16)])
def test_a_probe_generates_answers_for_as_many_micro_batches_as_the_training(
    generates: bool, accumulation: int
) -> None:
    """Eight answers to a prompt would not divide the 1 x 3 x 2 of a shorter step."""
    facts, knobs = make_facts(generates=generates), tunable_knobs(HF, HF_WORDS, NOTHING)
    words = ConfigRewriter(HF, HF_WORDS, knobs, facts, 64, DeviceKind.CPU).probed(Strategy(make_rung(2), 1, 16), "x")
    assert f"--gradient_accumulation_steps={accumulation}" in words.arguments
    assert json.loads(words.config)["gradient_accumulation_steps"] == "auto"

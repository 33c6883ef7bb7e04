"""What a checkpoint that is loaded, or an optimizer, holds a script's configuration to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.deepspeed_line import Override
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.offload import OFFLOAD, Offload
from autofit.domain.knobs.zero_stage import ZERO_STAGE
from autofit.domain.script import LoadedCheckpoint
from autofit.planning.script.held_knobs import hold_knobs, is_loadable
from autofit.planning.script.inspection import leanest
from autofit.planning.script.tunable_knobs import pins_of, tunable_knobs
from tests.planning.script.test_config_rewriter import FACTS, NOTHING, PLAIN

FREE = tunable_knobs(PLAIN, (), NOTHING)
OF_ZERO_2 = LoadedCheckpoint("out/5", (1, 2), rank_count=2)


@pytest.mark.parametrize(
    ("own_stage", "stages", "held"), [(0, (0,), 0), (0, (1, 2), 2), (1, (1, 2), 1), (2, (3,), 3), (3, (0,), 0)]
)
def test_a_stage_that_can_load_it_is_held_the_own_one_where_it_can(
    own_stage: int, stages: tuple[int, ...], held: int
) -> None:
    facts = replace(FACTS, zero_stage=own_stage, checkpoint=replace(OF_ZERO_2, zero_stages=stages))
    knobs = hold_knobs(FREE, facts)
    assert pins_of(knobs, facts, Attention.SDPA).of(ZERO_STAGE) == held
    assert leanest(facts, knobs, Attention.SDPA).rung.zero_stage == held
    assert is_loadable(knobs, facts) == (own_stage == held)
    assert f"ZeRO stage {held}" in knobs.notes[-1]
    assert hold_knobs(knobs, facts) == knobs, "once"


def test_the_offload_that_wrote_it_stays() -> None:
    facts = replace(FACTS, checkpoint=replace(OF_ZERO_2, offload=Offload.OPTIMIZER))
    assert pins_of(hold_knobs(FREE, facts), facts, Attention.SDPA).of(OFFLOAD) is Offload.OPTIMIZER


def test_an_override_of_the_stage_is_held_too() -> None:
    knobs = tunable_knobs({**PLAIN, "zero_optimization": {"stage": 0}}, (), frozenset({Override.STAGE}))
    facts = replace(FACTS, checkpoint=OF_ZERO_2)
    assert pins_of(hold_knobs(knobs, facts), facts, Attention.SDPA).of(ZERO_STAGE) == 2


@pytest.mark.parametrize("name", ["AdamW", "FusedAdam", "Lion", "SGD"])
def test_an_optimizer_of_elements_is_the_same_under_any_stage(name: str) -> None:
    assert hold_knobs(FREE, replace(FACTS, optimizer=name)) == FREE


@pytest.mark.parametrize("name", ["Adafactor", "Lamb", "Muon", "MyOptimizer"])
def test_an_optimizer_of_whole_parameters_keeps_its_stage_unless_the_user_lets_it_go(name: str) -> None:
    facts = replace(FACTS, optimizer=name, zero_stage=0, offload=Offload.NONE)
    knobs = hold_knobs(FREE, facts)
    pins = pins_of(knobs, facts, Attention.SDPA)
    assert (pins.of(ZERO_STAGE), pins.of(OFFLOAD)) == (0, Offload.NONE)
    assert name in knobs.notes[-1]
    assert hold_knobs(knobs, facts) == knobs, "once"
    let_go = tunable_knobs(PLAIN, (), frozenset({Override.STAGE}))
    assert hold_knobs(let_go, facts) == let_go


def test_another_number_of_ranks_is_told_where_it_matters() -> None:
    def told(checkpoint: LoadedCheckpoint) -> bool:
        return "is of 4 ranks and this job has 2" in hold_knobs(FREE, replace(FACTS, checkpoint=checkpoint)).notes[-1]

    assert told(replace(OF_ZERO_2, rank_count=4))
    assert not told(OF_ZERO_2)
    assert not told(replace(OF_ZERO_2, rank_count=4, is_universal=True))
    assert not told(replace(OF_ZERO_2, rank_count=4, zero_stages=(0,)))

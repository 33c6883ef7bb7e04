"""What formulas know of a script: its own tensors, and nothing of what nobody traced."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GRADIENT_CHECKPOINTING, GradientCheckpointing
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.pins import Pins
from autofit.domain.knobs.zero_stage import ZERO_STAGE
from autofit.domain.model import ParameterGroup
from autofit.domain.script import LoadedCheckpoint, ScriptFacts
from autofit.domain.strategy import Strategy
from autofit.planning.memory.activations import moments
from autofit.planning.memory.buffers import bucket_count, bucket_elements
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.parameters import parameters
from autofit.planning.script.script_setting import guessed_shape, own_strategy, script_request, script_setting
from autofit.planning.setting import Setting
from tests.builders import make_rung
from tests.planning import simulated as sim

FACTS = ScriptFacts(
    model_class="Mine",
    model_config=None,
    parameters=(ParameterGroup(1000, 14, True, 2), ParameterGroup(500, 2, False, 2)),
    buffers_bytes=12_345,
    optimizer="AdamW",
    dtype=Dtype.BF16,
    zero_stage=1,
    offload=Offload.NONE,
    micro_batch=4,
    gradient_accumulation=1,
    rank_count=8,
    gradient_checkpointing=None,
    attention=None,
    tokens=128,
)


def setting(facts: ScriptFacts = FACTS) -> Setting:
    request = script_request("train.py", facts, Pins(), memory_limit_bytes=None, identity=())
    return script_setting(request, facts, guessed_shape(facts), sim.hardware(), None)


def test_its_tensors_are_known_one_by_one_and_no_trace_is_made_up() -> None:
    scene = setting()
    assert scene.traces == ()
    assert parameters(own_strategy(FACTS).rung, scene).groups == FACTS.parameters
    assert moments(own_strategy(FACTS), scene) is None


def test_its_buffers_lie_beside_its_parameters() -> None:
    strategy = Strategy(
        make_rung(1),
        1,
        4,
    )
    sizes = [
        estimate_memory(strategy, setting(replace(FACTS, buffers_bytes=buffers_bytes))).parameters_bytes
        for buffers_bytes in (FACTS.buffers_bytes, 0)
    ]
    assert sizes[0] - sizes[1] == FACTS.buffers_bytes


@pytest.mark.parametrize(
    ("own_stage", "loads", "is_tried"), [(0, None, True), (2, None, False), (2, (0,), True), (2, (1, 2), False)]
)
def test_only_a_script_that_has_it_is_left_at_deepspeeds_stage_0(
    own_stage: int, loads: tuple[int, ...] | None, is_tried: bool
) -> None:
    checkpoint = None if loads is None else LoadedCheckpoint("out/5", loads, rank_count=2)
    conditions = setting(replace(FACTS, zero_stage=own_stage, checkpoint=checkpoint)).conditions
    assert (ZERO_STAGE.why_not(0, {"offload": Offload.NONE}, conditions) is None) == is_tried
    assert ZERO_STAGE.why_not(1, {"offload": Offload.NONE}, conditions) is None


def test_checkpointing_is_turned_on_and_off_in_a_script_and_nothing_between() -> None:
    usable = GRADIENT_CHECKPOINTING.usable({}, setting().conditions)
    assert usable == (GradientCheckpointing.OFF, GradientCheckpointing.ON)


def test_a_scripts_own_configuration_is_taken_to_overlap_on_a_gpu_alone_too() -> None:
    """Nobody looked whether it does, and with it there are two reduce buckets."""
    alone = replace(setting(), hardware=sim.hardware(1))
    assert bucket_count(make_rung(1), alone) == 2 * bucket_elements(alone)
    assert bucket_count(make_rung(1), replace(alone, tensors=None)) == bucket_elements(alone)

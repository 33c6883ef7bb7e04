"""What plain data parallel holds, moment by moment, against values worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.estimate import MemoryEstimate
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.model import ParameterGroup
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.trace import ModelTensors, Moment, Trace
from autofit.planning.memory.activations import micro_step, wanted_micro_steps
from autofit.planning.memory.load import Load
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.memory.plain_memory import plain_loads
from autofit.planning.memory.states import ModelStates, model_states
from autofit.planning.setting import Setting
from tests.builders import GB, LLAMA_7B, make_rung
from tests.planning import simulated as sim

FULL = make_rung(0)
LORA = make_rung(0, method=Method.LORA)
P, ADAPTERS = LLAMA_7B.parameter_count, 2 * 2 * 32 * 16 * 4096  # r 16 on q_proj and v_proj
EIGHT, ONE = sim.setting(sim.hardware(8)), sim.setting(sim.hardware(1))
MOMENTS = (
    Moment(Phase.FORWARD, 5 * GB, 0),
    Moment(Phase.BACKWARD, 6 * GB, P // 2),
    Moment(Phase.BACKWARD, 3 * GB, P),
    Moment(Phase.EVALUATE, GB, 0),
)


def states(rung: Rung, scene: Setting) -> ModelStates:
    return model_states(Strategy(rung, 1, 1), scene)


def loads(accumulation: int, scene: Setting) -> list[Load]:
    return [*plain_loads(Strategy(FULL, 1, accumulation), scene, MOMENTS)]


def test_whatever_is_trained_is_fp32_and_lies_whole_on_every_device() -> None:
    assert states(FULL, EIGHT) == ModelStates(4 * P, 4 * P, 8 * P)
    assert states(FULL, ONE) == ModelStates(4 * P, 0, 8 * P)


def test_what_lora_freezes_is_of_the_rungs_dtype() -> None:
    scene = replace(EIGHT, request=replace(EIGHT.request, lora=replace(EIGHT.request.lora, r=16)))
    assert states(LORA, scene) == ModelStates(2 * P + 4 * ADAPTERS, 4 * ADAPTERS, 8 * ADAPTERS)


@pytest.mark.parametrize("dtype", [Dtype.FP16, Dtype.FP32])
def test_the_dtype_that_is_computed_in_changes_nothing_of_it(dtype: Dtype) -> None:
    assert states(replace(FULL, dtype=dtype), EIGHT) == states(FULL, EIGHT)


def test_a_scripts_own_stage_0_has_master_weights_unless_its_weights_are_fp32() -> None:
    tensors = ModelTensors((ParameterGroup(P, 1, True, 2),))
    script = replace(EIGHT, tensors=tensors)
    assert states(FULL, script) == ModelStates(2 * P, 0, 12 * P)
    assert states(replace(FULL, dtype=Dtype.FP32), script) == ModelStates(4 * P, 0, 8 * P)
    assert states(replace(FULL, zero_stage=1, dtype=Dtype.FP32), script).optimizer_bytes == 12 * P // 8


def test_gradients_lie_in_the_buckets_and_nowhere_else_without_accumulation() -> None:
    broadcast, *rest = loads(1, EIGHT)
    assert (broadcast.phase, broadcast.gradients_bytes, broadcast.optimizer_bytes) == (Phase.INITIALIZE, 0, 0)
    assert {load.gradients_bytes for load in rest} == {4 * P}


def test_with_accumulation_earlier_gradients_lie_beside_the_buckets() -> None:
    """torch's loop drops the views, so that the first micro-steps make tensors of their own."""
    _, *rest = loads(2, EIGHT)
    beside = [(load.phase, (load.gradients_bytes - 4 * P) / (4 * P)) for load in rest]
    first = [(Phase.FORWARD, 0.0), (Phase.BACKWARD, 0.0), (Phase.BACKWARD, 0.5), (Phase.EVALUATE, 0.0)]
    last = [(Phase.FORWARD, 1.0), (Phase.BACKWARD, 1.0), (Phase.BACKWARD, 0.5), (Phase.EVALUATE, 0.0)]
    assert beside == [*first, *last, (Phase.STEP, 0.0), (Phase.SAVE, 0.0)]
    middle = [load.gradients_bytes for load in loads(3, EIGHT)[5:8]]
    assert middle == [8 * P] * 3  # of three micro-steps the second one moves nothing


def test_one_device_keeps_gradients_until_the_step() -> None:
    held = [(load.phase, load.gradients_bytes / (4 * P)) for load in loads(1, ONE)]
    assert held == [
        *((Phase.FORWARD, 0.0), (Phase.BACKWARD, 0.0), (Phase.BACKWARD, 0.5), (Phase.EVALUATE, 0.0)),
        *((Phase.STEP, 1.0), (Phase.SAVE, 0.0)),
    ]


def estimate(rung: Rung, scene: Setting) -> MemoryEstimate:
    traces = tuple(Trace(step, MOMENTS, ()) for step in wanted_micro_steps((rung,), scene))
    return estimate_memory(Strategy(rung, 1, 1), replace(scene, traces=traces))


def test_the_peak_of_a_7b_on_eight_devices() -> None:
    """16 bytes a parameter, and the traced micro-step, in which autocast's copies are."""
    peak = estimate(FULL, sim.setting(sim.hardware(8, 192)))
    assert peak.phase is Phase.BACKWARD
    assert peak.peak_bytes - peak.runtime_bytes == 16 * P + 6 * GB


def test_a_micro_step_of_its_own_is_traced_where_autocast_computes() -> None:
    roomy = sim.setting(sim.hardware(8, 192))
    (step, *_) = wanted_micro_steps((FULL,), roomy)
    assert step.is_autocast
    assert step == replace(micro_step(replace(FULL, zero_stage=1), 1, roomy), is_autocast=True)
    fp32 = replace(FULL, dtype=Dtype.FP32)
    assert micro_step(fp32, 1, roomy) == micro_step(replace(fp32, zero_stage=1), 1, roomy)


def test_nothing_is_traced_for_weights_and_moments_that_are_too_large_by_themselves() -> None:
    assert wanted_micro_steps((FULL,), sim.setting(sim.hardware(8, 80))) == ()
    assert wanted_micro_steps((LORA,), sim.setting(sim.hardware(8, 80)))


def test_autocasts_copies_count_without_a_trace() -> None:
    """With checkpointing they last as long as the forward pass."""
    ends = (GradientCheckpointing.OFF, GradientCheckpointing.ON)
    kept, again = (replace(FULL, gradient_checkpointing=one) for one in ends)
    whole = estimate_memory(Strategy(kept, 1, 1), EIGHT)
    least = estimate_memory(Strategy(again, 1, 1), EIGHT)
    assert min(whole.activations_bytes, least.activations_bytes) > 2 * P
    assert (whole.phase, least.phase) == (Phase.FORWARD, Phase.FORWARD)


def test_the_host_of_a_gpu_sees_one_tensor_at_a_time() -> None:
    plain, zero = (estimate_memory(Strategy(make_rung(stage), 1, 1), EIGHT).host for stage in (0, 1))
    assert EIGHT.kind is DeviceKind.CUDA
    assert plain.unpinned_bytes < zero.unpinned_bytes

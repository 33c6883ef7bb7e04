"""What LOMO and AdaLomo hold, moment by moment, against values worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.model import ParameterGroup
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Strategy
from autofit.domain.task import Task
from autofit.domain.trace import Moment, Trace
from autofit.planning.fused_update import CHUNK_ELEMENTS
from autofit.planning.memory.activations import micro_step
from autofit.planning.memory.bucket_size import with_bucket
from autofit.planning.memory.fused_memory import BLOCK_BYTES, ROUNDED_BYTES, fused_loads
from autofit.planning.memory.interval import GATHERED_LOW, TRACED_LOW, low_bytes
from autofit.planning.memory.load import Load
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.memory.states import ModelStates, model_states
from autofit.planning.setting import Setting
from tests.builders import GB, LLAMA_7B, make_rung
from tests.planning import simulated as sim

LOMO, ADALOMO = Optimizer.LOMO, Optimizer.ADALOMO
H, F, V, LAYERS = 4096, 11008, 32000, 32
TABLE, WIDE = V * H, F * H
LLAMA = (
    ParameterGroup(H, 2 * LAYERS + 1, True, 2),
    ParameterGroup(H * H, 4 * LAYERS, True, 2),
    ParameterGroup(WIDE, 3 * LAYERS, True, 2),
    ParameterGroup(TABLE, 2, True, 2),
)
P = sum(group.element_count * group.tensor_count for group in LLAMA)
NORMS = H * (2 * LAYERS + 1)  # whole on every rank, beside their parts
MOMENTS = (
    Moment(Phase.FORWARD, GB, 0),
    Moment(Phase.FORWARD, 2 * GB, 0),
    Moment(Phase.FORWARD, 5 * GB, 0),
    Moment(Phase.BACKWARD, 6 * GB, TABLE),
    Moment(Phase.BACKWARD, 3 * GB, P - TABLE),
    Moment(Phase.BACKWARD, GB, P),
    Moment(Phase.EVALUATE, 4 * GB, 0),
)


def scene(ranks: int, groups: tuple[ParameterGroup, ...] = LLAMA) -> Setting:
    """Of a model with these tensors."""
    there = sim.setting(sim.hardware(ranks))
    traced = Trace(micro_step(make_rung(3), 1, there), MOMENTS, groups)
    return replace(there, traces=(traced,), shape=replace(LLAMA_7B, parameter_count=P))


def strategy(stage: int, optimizer: Optimizer = LOMO, accumulation: int = 1, dtype: Dtype = Dtype.BF16) -> Strategy:
    return Strategy(make_rung(stage, optimizer=optimizer, dtype=dtype), 1, accumulation)


def loads(one: Strategy, setting: Setting) -> list[Load]:
    return [*fused_loads(one, setting, MOMENTS)]


def test_weights_are_all_that_rests_of_lomo() -> None:
    assert model_states(strategy(0), scene(8)) == ModelStates(2 * P, 0, 0)
    assert model_states(strategy(3), scene(8)) == ModelStates(2 * P // 8 + 2 * NORMS, 0, 0)
    assert model_states(strategy(0, dtype=Dtype.FP32), scene(1)) == ModelStates(4 * P, 0, 0)


@pytest.mark.parametrize("stage", [0, 3])
def test_adalomo_keeps_a_number_a_row_and_one_a_column_on_every_rank(stage: int) -> None:
    matrices = 4 * LAYERS * 2 * H + 3 * LAYERS * (H + F) + 2 * (H + V)
    assert model_states(strategy(stage, ADALOMO), scene(8)).optimizer_bytes == 4 * (matrices + NORMS)


def test_under_zero_3_the_head_is_whole_throughout_and_one_tensor_beside_it() -> None:
    forward = [load for load in loads(strategy(3), scene(8)) if load.phase is Phase.FORWARD]
    assert [load.buffers_bytes for load in forward] == [4 * TABLE, 2 * (TABLE + WIDE), 2 * TABLE]
    assert all(load.buffers_bytes == 0 for load in loads(strategy(0), scene(8)) if load.phase is Phase.FORWARD)


def test_a_layer_that_is_computed_again_is_whole_until_its_last_module_is_through() -> None:
    checkpointed = replace(strategy(3), rung=replace(strategy(3).rung, gradient_checkpointing=GradientCheckpointing.ON))
    for one, whole in ((strategy(3), WIDE), (checkpointed, 4 * H * H + 3 * WIDE)):
        backward = [load for load in loads(one, scene(8)) if load.phase is Phase.BACKWARD]
        assert backward[2].buffers_bytes == 2 * (TABLE + whole)


def test_an_update_follows_each_gradient_and_holds_a_chunk_of_it_in_fp32() -> None:
    backward = [load for load in loads(strategy(0), scene(1)) if load.phase is Phase.BACKWARD]
    passed, update = backward[:2]
    assert passed.total_bytes == 2 * P + 6 * GB
    # Of the loss nothing is left but what the last layer's forward pass ends with.
    assert update.total_bytes == 2 * P + 2 * GB + 2 * TABLE + ROUNDED_BYTES * CHUNK_ELEMENTS


def test_a_divided_gradient_is_dropped_once_its_slice_is_there() -> None:
    update = [load for load in loads(strategy(3), scene(8)) if load.phase is Phase.BACKWARD][1]
    assert 2 * TABLE > ROUNDED_BYTES * CHUNK_ELEMENTS
    assert update.buffers_bytes == 2 * TABLE + 2 * TABLE + 2 * TABLE // 8


def test_adalomo_makes_its_update_of_a_chunk_beside_it() -> None:
    lomo, adalomo = (
        [load for load in loads(strategy(0, one), scene(1)) if load.phase is Phase.BACKWARD][1]
        for one in (LOMO, ADALOMO)
    )
    assert adalomo.buffers_bytes - lomo.buffers_bytes == BLOCK_BYTES[ADALOMO] * CHUNK_ELEMENTS


def test_fp32_weights_are_updated_where_they_lie() -> None:
    update = [load for load in loads(strategy(0, dtype=Dtype.FP32), scene(1)) if load.phase is Phase.BACKWARD][1]
    assert update.buffers_bytes == 4 * TABLE


@pytest.mark.parametrize(("stage", "part"), [(0, P), (3, P // 8)])
def test_accumulation_keeps_the_slices_of_gradients_in_the_rungs_dtype(stage: int, part: int) -> None:
    assert all(load.gradients_bytes == 0 for load in loads(strategy(stage), scene(8)))
    kept = [load.gradients_bytes for load in loads(strategy(stage, accumulation=3), scene(8))]
    assert max(kept) == 2 * part
    last = [load.gradients_bytes for load in loads(strategy(stage, accumulation=2), scene(8))]
    assert max(last) == 2 * part  # when the last micro-step begins
    assert last[-1] == kept[-1] == 0


def test_the_gradient_of_a_tied_head_waits_for_the_embeddings() -> None:
    tied = scene(8, (*LLAMA[:3], replace(LLAMA[3], tensor_count=1)))
    backward = [load for load in loads(strategy(0), tied) if load.phase is Phase.BACKWARD]
    assert backward[1].buffers_bytes == 0  # beside the loss nothing is updated
    assert backward[-1].buffers_bytes == 2 * TABLE + ROUNDED_BYTES * CHUNK_ELEMENTS
    whole = [load.buffers_bytes for load in loads(strategy(3), tied) if load.phase is Phase.FORWARD]
    assert whole[0] == 2 * TABLE  # it is the embeddings' table as well


def test_a_head_that_scores_is_no_table_and_is_not_kept_whole() -> None:
    """Beside the embeddings, the one table that there is."""
    groups = (*LLAMA[:3], ParameterGroup(TABLE, 1, True, 2), ParameterGroup(H, 1, True, 2))
    there = scene(8, groups)
    scoring = replace(there, request=replace(there.request, task=Task.REWARD))
    forward = [load.buffers_bytes for load in loads(strategy(3), scoring) if load.phase is Phase.FORWARD]
    assert forward == [2 * TABLE, 2 * WIDE, 0]
    updates = [load.buffers_bytes for load in loads(strategy(3), scoring) if load.phase is Phase.BACKWARD][1::2]
    assert updates[0] == 0  # the head's is as good as nothing
    assert updates[-1] == 2 * TABLE + 2 * TABLE + 2 * TABLE // 8


def test_experts_are_gathered_together_and_kept_for_the_backward_pass() -> None:
    stack, down = 8 * 2 * WIDE, 8 * WIDE
    experts = (
        *LLAMA[:2], LLAMA[3], ParameterGroup(stack, LAYERS, True, 2), ParameterGroup(down, LAYERS, True, 2),
    )  # fmt: skip
    plain = strategy(3)
    checkpointed = replace(plain, rung=replace(plain.rung, gradient_checkpointing=GradientCheckpointing.ON))
    held = [one.buffers_bytes for one in loads(plain, scene(8, experts)) if one.phase is Phase.FORWARD]
    assert held[-1] == 2 * (TABLE + LAYERS * (stack + down))
    again = [one.buffers_bytes for one in loads(checkpointed, scene(8, experts)) if one.phase is Phase.FORWARD]
    assert again[1:] == [2 * (TABLE + 2 * (stack + down)), 2 * TABLE]


def test_weights_of_which_autograd_keeps_views_stay_whole_until_the_backward_pass() -> None:
    viewed = scene(8, (*LLAMA[:2], replace(LLAMA[2], is_viewed=True), LLAMA[3]))
    for checkpointing, layers in (
        (GradientCheckpointing.OFF, LAYERS),
        (GradientCheckpointing.EVERY_2, LAYERS // 2),
        (GradientCheckpointing.ON, 0),
    ):
        rung = replace(strategy(3).rung, gradient_checkpointing=checkpointing)
        held = [one.buffers_bytes for one in loads(Strategy(rung, 1, 1), viewed) if one.phase is Phase.FORWARD]
        assert held[-1] == 2 * (TABLE + layers * 3 * WIDE)


def test_its_micro_steps_are_those_of_zero_and_need_no_autocast() -> None:
    setting = sim.setting(sim.hardware(8))
    plain, fused, divided = (micro_step(one, 1, setting) for one in (make_rung(0), strategy(0).rung, make_rung(2)))
    assert fused == divided != plain


def test_it_has_no_buckets_to_size() -> None:
    usual = replace(strategy(3), rung=replace(strategy(3).rung, optimizer=Optimizer.ADAMW))
    setting = replace(scene(8), shape=replace(LLAMA_7B, hidden_size=512))
    assert with_bucket(strategy(3), setting).bucket_elements == 512**2
    assert (with_bucket(usual, setting).bucket_elements or 0) > 512**2


def test_nothing_that_may_be_gathered_ahead_makes_its_lower_bound_uncertain() -> None:
    load, setting = Load(Phase.BACKWARD, 10 * GB), scene(8)
    usual = replace(strategy(3), rung=replace(strategy(3).rung, optimizer=Optimizer.ADAMW))
    fused_bytes, usual_bytes = (low_bytes(one, setting, [load], is_traced=True) for one in (strategy(3), usual))
    assert fused_bytes - usual_bytes == round((TRACED_LOW - GATHERED_LOW) * 10 * GB)


def test_lomo_takes_less_than_adalomo_and_both_less_than_anything_that_keeps_gradients() -> None:
    setting = sim.setting(sim.hardware(8))
    for stage in (0, 3):
        peaks = [estimate_memory(strategy(stage, one), setting).peak_bytes for one in (LOMO, ADALOMO, Optimizer.ADAMW)]
        assert peaks == sorted(set(peaks))

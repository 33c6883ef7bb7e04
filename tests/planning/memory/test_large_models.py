"""Terms that only show beyond some size, against DeepSpeed 0.19.8's own engine on a device that counts (Llama-2)."""

from __future__ import annotations

import pytest

from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.model import ModelShape
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Strategy
from autofit.planning.memory.buffers import gathered_count
from autofit.planning.memory.load import Load
from autofit.planning.memory.micro_step_memory import loads_within
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.memory.states import part_count, sub_group_count
from autofit.planning.memory.step_memory import loads_outside
from autofit.planning.parameters import Parameters
from autofit.planning.setting import Setting

from . import llama
from .llama import SEVEN, SEVENTY, seven_moments, strategy

MB = 10**6
BUCKET_BYTES = 2 * 8192**2  # of the 70B


def load_of(phase: Phase, of: Strategy, setting: Setting) -> Load:
    return next(load for load in loads_outside(of, setting) if load.phase is phase)


def test_stage_3_steps_sub_group_by_sub_group() -> None:
    """The engine's step of 70B on 8 ranks peaks at 144,215.5 MB: 6 bytes of 1.021 of its 8.6 billion parameters."""
    stage_3 = strategy(3)
    setting = llama.setting(stage_3.rung, SEVENTY)
    step = load_of(Phase.STEP, stage_3, setting)
    assert step.buffers_bytes == BUCKET_BYTES + 6 * (10**9 + 32000 * 8192 // 8)
    assert step.total_bytes / MB == pytest.approx(144_215.5, rel=1e-3)


def test_a_partition_below_a_sub_group_is_updated_at_once() -> None:
    stage_3 = strategy(3)
    setting = llama.setting(stage_3.rung)
    assert sub_group_count(stage_3.rung, setting) == part_count(stage_3.rung, setting) == SEVEN.parameter_count // 8


@pytest.mark.parametrize(("shape", "expected"), [(SEVEN, 1_030_749_696), (SEVENTY, 1_033_895_936)])
def test_stage_3_gathers_ahead_until_its_limit_on_live_parameters(shape: ModelShape, expected: int) -> None:
    """By hand, from the model's end: 7B the head, 4 layers, two feed-forward matrices; 70B the head, three, one of
    attention. The engine holds 1.031 and 1.034 billion."""
    stage_3 = strategy(3).rung
    setting = llama.setting(stage_3, shape)
    assert gathered_count(stage_3, setting, 0.0) == pytest.approx(expected, rel=1e-4)
    assert gathered_count(stage_3, setting, 0.5) == gathered_count(stage_3, setting, 0.0)
    assert gathered_count(stage_3, setting, 0.99) == pytest.approx(0.01 * shape.parameter_count, rel=0.01)


def test_a_model_below_the_limit_stays_whole() -> None:
    known = Parameters(llama.setting(strategy(3).rung).traces[0].parameters)
    assert known.count_from_the_end(32, 10**10) == SEVEN.parameter_count
    assert known.count_from_the_end(32, 1) == 32000 * 4096


OPTIMIZER, NONE = Offload.OPTIMIZER, Offload.NONE
ENGINE = [  # MB at the peak of forward, backward and step, on the worst of rank 0 and rank 7 of 8
    (1, NONE, 1, 33_729.8),
    (1, NONE, 2, 40_811.3),
    (1, OPTIMIZER, 1, 23_134.2),
    (1, OPTIMIZER, 2, 30_267.4),
    (2, NONE, 1, 30_385.3),
    (2, NONE, 2, 30_385.3),
    (2, OPTIMIZER, 1, 17_052.7),
    (2, OPTIMIZER, 2, 17_052.7),
    (3, OPTIMIZER, 1, 6_527.6),
]


@pytest.mark.parametrize(("zero_stage", "offload", "accumulation", "expected_mb"), ENGINE)
def test_the_engines_peak_of_a_step(zero_stage: int, offload: Offload, accumulation: int, expected_mb: float) -> None:
    """Llama-2-7B, all parameters, 256 tokens; within 1.5 %. Each of the terms weighs more: a rank's own gradients, the
    copy and the norm of one that leaves for the host, buckets that wait, parameters gathered ahead."""
    of = strategy(zero_stage, offload, accumulation=accumulation)
    setting = llama.setting(of.rung, moments=seven_moments())
    loads = [*loads_outside(of, setting)]
    for is_first_rank in (True, False):
        loads += loads_within(of, setting, seven_moments(), is_first_rank=is_first_rank)
    peak = max(load.total_bytes for load in loads if load.phase is not Phase.INITIALIZE)
    assert peak / MB == pytest.approx(expected_mb, rel=0.015)


@pytest.mark.parametrize(("is_first_rank", "expected_mb"), [(True, 16_486.4), (False, 17_052.7)])
def test_the_last_ranks_own_gradients_leave_while_most_is_held(is_first_rank: bool, expected_mb: float) -> None:
    """8 bytes of the head for its norm, 2 for its copy: the first rank does that when nothing else is left."""
    of = strategy(2, OPTIMIZER)
    loads = loads_within(of, llama.setting(of.rung), seven_moments(), is_first_rank=is_first_rank)
    assert max(load.total_bytes for load in loads) / MB == pytest.approx(expected_mb, rel=0.006)


def test_the_last_gradients_leave_when_the_backward_pass_is_over() -> None:
    """Short rows: nothing of the activations counts, and the first rank's embeddings come last."""
    of = strategy(2, OPTIMIZER)
    *_, end = loads_within(of, llama.setting(of.rung), seven_moments(), is_first_rank=True)
    buckets, largest = 2 * 2 * 4096**2, 32000 * 4096
    assert end.total_bytes == 2 * SEVEN.parameter_count + 2 * largest + buckets + 2 * largest + 8 * largest


def test_stage_3_fetches_gradients_back_for_their_norm() -> None:
    """One rank: the embeddings wait, their partition comes back, and its norm takes 8 bytes of each element."""
    of = strategy(3, OPTIMIZER)
    *_, end = loads_within(of, llama.setting(of.rung, ranks=1), seven_moments(), is_first_rank=True)
    bucket_and_copy, largest = 2 * 2 * 4096**2, 32000 * 4096
    assert end.total_bytes == 2 * SEVEN.parameter_count + bucket_and_copy + (2 + 2 + 8) * largest


@pytest.mark.parametrize(("memory_gb", "beside"), [(85, 2), (28, 2), (27, 2 / 8)])
def test_the_flat_copy_lies_on_the_device_only_where_there_is_room(memory_gb: float, beside: float) -> None:
    """27 GB of parameters and their copy, with 0.9 GB of context and communicator; else a copy of the partition."""
    of = strategy(2, OPTIMIZER)
    setting = llama.setting(of.rung, memory_gb=memory_gb)
    start = load_of(Phase.INITIALIZE, of, setting)
    assert start.total_bytes == (2 + beside) * SEVEN.parameter_count
    by_host = 8 * 4 * SEVEN.parameter_count
    assert (estimate_memory(of, setting).host.unpinned_bytes == by_host) is (memory_gb < 28)


def test_the_flat_copy_is_no_need_of_the_device() -> None:
    of = strategy(2, OPTIMIZER)
    memory = estimate_memory(of, llama.setting(of.rung, moments=seven_moments()))
    assert memory.phase is Phase.INITIALIZE
    assert memory.peak_bytes > 27_000 * MB > 18_000 * MB > memory.low_bytes


def test_what_is_fetched_ahead_is_no_need_either() -> None:
    """4.94 GB where the engine fetches nothing ahead, 6.00 where it does (7B, optimizer offloaded)."""
    of = strategy(3, OPTIMIZER)
    setting = llama.setting(of.rung)
    loads = [*loads_within(of, setting, seven_moments(), is_first_rank=True)]
    peak = max(load.total_bytes for load in loads) - max(load.least.total_bytes for load in loads)
    assert peak / MB == pytest.approx(6_003 - 4_941, abs=2)


def test_frozen_linear_layers_keep_their_inputs_under_zero_3() -> None:
    """A trace of its own for LoRA in stage 3, and only there."""
    kept = {
        (method, stage): llama.setting(llama.rung(stage, method=method)).traces[0].of.keeps_linear_inputs
        for method in Method
        for stage in (2, 3)
    }
    assert {key for key, keeps in kept.items() if keeps} == {(Method.LORA, 3)}

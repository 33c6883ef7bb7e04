"""The formulas against published figures (decimal GB) and DeepSpeed's measured terms."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.estimate import MemoryEstimate
from autofit.domain.hardware import DeviceKind
from autofit.domain.request import Lora
from autofit.domain.strategy import Attention, Dtype, Method, Offload, Rung, Strategy
from autofit.planning.memory import estimate_memory, offloaded_bytes
from autofit.planning.states import lora_parameter_count, model_states

from . import simulated as sim

SEVEN = replace(sim.LLAMA_7B, parameter_count=7_000_000_000)
SCENE = sim.setting(shape=SEVEN, tokens=256, global_batch=8)
PLAIN = Rung(Method.FULL, 1, Offload.NONE, False, Attention.EAGER, Dtype.BF16)


def one_row(rung: Rung) -> Strategy:
    return Strategy(rung, 1, 1)


def states_and_activations_bytes(memory: MemoryEstimate) -> int:
    states_bytes = memory.parameters_bytes + memory.gradients_bytes + memory.optimizer_bytes
    return states_bytes + memory.activations_bytes


@pytest.mark.parametrize(("stage", "expected_gb"), [(1, 39.98), (2, 27.73), (3, 15.48)])
def test_published_figures_of_llama_2_7b(stage: int, expected_gb: float) -> None:
    memory = estimate_memory(one_row(replace(PLAIN, zero_stage=stage)), SCENE)
    assert memory.activations_bytes / 1e9 == pytest.approx(1.48, abs=0.005)
    assert states_and_activations_bytes(memory) / 1e9 == pytest.approx(expected_gb, abs=0.005)


def test_adapters_on_q_and_v() -> None:
    assert lora_parameter_count(SEVEN, Lora()) == pytest.approx(33.6e6, rel=0.002)
    grouped = replace(SEVEN, key_value_head_count=8)
    assert lora_parameter_count(grouped, Lora()) == 32 * 64 * (4096 + 4096 + 4096 + 1024)
    assert lora_parameter_count(SEVEN, Lora(target_modules=("all-linear",))) == 32 * 64 * (4 * 8192 + 3 * 15104)


def test_frozen_weights_cost_two_bytes_and_stage_3_divides_them() -> None:
    lora = replace(PLAIN, method=Method.LORA)
    trained = lora_parameter_count(SEVEN, Lora())
    states = model_states(one_row(lora), SCENE)
    assert states.parameters_bytes == 2 * (7_000_000_000 + trained)
    assert states.gradients_bytes == 2 * trained
    assert states.optimizer_bytes == 12 * trained // 8
    divided = model_states(one_row(replace(lora, zero_stage=3)), SCENE)
    assert divided.parameters_bytes == 2 * (7_000_000_000 + trained) // 8


def test_offload_moves_states_to_the_host_of_all_ranks() -> None:
    moved = one_row(replace(PLAIN, zero_stage=2, offload=Offload.OPTIMIZER))
    memory = estimate_memory(moved, SCENE)
    assert (memory.gradients_bytes, memory.optimizer_bytes) == (0, 0)
    assert offloaded_bytes(moved, SCENE) == pytest.approx(14 * 7e9)
    everything = one_row(replace(PLAIN, zero_stage=3, offload=Offload.ALL))
    assert estimate_memory(everything, SCENE).parameters_bytes == 0
    assert offloaded_bytes(everything, SCENE) == pytest.approx(16 * 7e9)


def test_offload_saves_nothing_where_the_host_is_the_device() -> None:
    scene = replace(SCENE, hardware=sim.hardware(2, kind=DeviceKind.CPU, capability=None))
    kept = replace(PLAIN, zero_stage=3)
    moved = replace(kept, offload=Offload.ALL)
    assert model_states(one_row(kept), scene) == model_states(one_row(moved), scene)


def test_fp32_has_wider_weights_and_no_second_master_copy_in_stage_3() -> None:
    states = model_states(one_row(replace(PLAIN, zero_stage=3, dtype=Dtype.FP32)), SCENE)
    total_bytes = states.parameters_bytes + states.gradients_bytes + states.optimizer_bytes
    assert total_bytes == pytest.approx(16 * 7e9 / 8)


def test_checkpointing_and_flash_kernels_keep_less() -> None:
    def kept(rung: Rung) -> int:
        return estimate_memory(one_row(rung), SCENE).activations_bytes

    sdpa = replace(PLAIN, attention=Attention.SDPA)
    assert kept(sdpa) == 256 * 4096 * 34 * 32
    assert kept(replace(sdpa, gradient_checkpointing=True)) == 256 * 4096 * (34 + 2 * 32)
    assert kept(replace(sdpa, dtype=Dtype.FP32)) == 2 * kept(sdpa)


def test_accumulation_keeps_gradients_and_more_buckets() -> None:
    once, often = Strategy(PLAIN, 1, 1), Strategy(PLAIN, 1, 4)
    bucket_bytes = 2 * 4096**2
    one, other = estimate_memory(once, SCENE), estimate_memory(often, SCENE)
    assert other.buffers_bytes - one.buffers_bytes == 2 * bucket_bytes
    assert other.low_bytes > one.low_bytes


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("offload", list(Offload))
def test_the_interval_holds_the_estimate(stage: int, method: Method, offload: Offload) -> None:
    rung = replace(PLAIN, zero_stage=stage, method=method, offload=offload)
    memory = estimate_memory(one_row(rung), SCENE)
    assert memory.low_bytes <= memory.peak_bytes <= memory.high_bytes

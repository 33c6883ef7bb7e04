"""What ZeRO divides of a base in fewer bits, by hand: Llama-2-7B and 70B with adapters of rank 64 on q and v."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.quantization import Quantization
from autofit.domain.model import ModelShape
from autofit.domain.strategy import Rung, Strategy
from autofit.planning.memory.buffers import gathered_count
from autofit.planning.memory.host_memory import host_estimate
from autofit.planning.memory.states import model_states
from autofit.planning.parameters import parameters
from autofit.planning.setting import Setting
from tests.planning.memory import llama

NF4, INT8, NONE = Quantization.NF4, Quantization.INT8, Quantization.NONE
SEVEN_LINEAR = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008)
SEVEN_KEPT = 65 * 4096 + 2 * 32000 * 4096  # norms, embeddings and the head
ADAPTERS = 64 * 4096 * 128
ROWS = 32 * (4 * 4096 + 2 * 11008 + 4096)  # outputs of all linear layers of 7B


def lora_rung(zero_stage: int, quantization: Quantization, offload: Offload = Offload.NONE) -> Rung:
    return replace(llama.rung(zero_stage, offload, Method.LORA), quantization=quantization)


def setting_of(rung: Rung, shape: ModelShape = llama.SEVEN, *, ranks: int = 8) -> Setting:
    """The traced parameters, the linear layers among them marked as a class says it."""
    made = llama.setting(rung, shape, ranks=ranks)
    largest = max(group.element_count for group in made.traces[0].parameters)
    groups = tuple(
        replace(group, linear_rows=4096)
        if shape.hidden_size < group.element_count < largest and not group.is_trained
        else group
        for group in made.traces[0].parameters
    )
    return replace(made, traces=(replace(made.traces[0], parameters=groups),))


def parameters_bytes(zero_stage: int, quantization: Quantization, ranks: int = 8) -> int:
    rung = lora_rung(zero_stage, quantization)
    return model_states(Strategy(rung, 1, 1), setting_of(rung, ranks=ranks)).parameters_bytes


@pytest.mark.parametrize("zero_stage", [1, 2])
def test_below_stage_3_every_rank_has_all_of_it(zero_stage: int) -> None:
    kept_bytes = 2 * (SEVEN_KEPT + ADAPTERS)
    assert parameters_bytes(zero_stage, NONE) == 2 * SEVEN_LINEAR + kept_bytes
    assert parameters_bytes(zero_stage, NF4) == pytest.approx(0.516 * SEVEN_LINEAR + kept_bytes, rel=1e-3)
    assert parameters_bytes(zero_stage, INT8) == SEVEN_LINEAR + 4 * 4096 * 224 + kept_bytes


def test_plain_data_parallel_keeps_the_adapters_in_fp32() -> None:
    kept_bytes = 2 * SEVEN_KEPT + 4 * ADAPTERS
    assert parameters_bytes(0, NF4) == pytest.approx(0.516 * SEVEN_LINEAR + kept_bytes, rel=1e-3)


def test_stage_3_divides_what_is_packed_and_leaves_the_scales_whole() -> None:
    scales_bytes = parameters(lora_rung(3, NF4), setting_of(lora_rung(3, NF4))).scales_bytes
    assert scales_bytes == pytest.approx(0.0159 * SEVEN_LINEAR, rel=0.01)
    divided_bytes = (0.5 * SEVEN_LINEAR + 2 * (SEVEN_KEPT + ADAPTERS)) / 8
    norms_bytes = 2 * 65 * 4096  # which stay whole
    assert parameters_bytes(3, NF4) == pytest.approx(divided_bytes + norms_bytes + scales_bytes, rel=1e-3)
    assert parameters_bytes(3, NF4, ranks=64) > scales_bytes


def test_offloaded_parameters_leave_the_scales_behind() -> None:
    rung = lora_rung(3, NF4, Offload.ALL)
    setting = setting_of(rung)
    left_bytes = model_states(Strategy(rung, 1, 1), setting).parameters_bytes
    assert left_bytes == parameters(rung, setting).scales_bytes + 2 * 65 * 4096


def test_a_limit_of_deepspeed_holds_for_elements_as_they_are_packed() -> None:
    """1e9 live parameters are a fifth of the bytes of 16-bit ones where they are packed into bytes: of 70B what comes
    after the head is 1e9 less its 262 M."""
    seventy, rung = llama.SEVENTY, lora_rung(3, NF4)
    setting = setting_of(rung, seventy)
    head = 32000 * 8192
    layer = parameters(rung, setting).whole_count // seventy.layer_count
    gathered = gathered_count(rung, setting, 0.0)
    assert gathered == pytest.approx(head + (1_000_000_000 - head) / 2, abs=layer)
    plain = lora_rung(3, NONE)
    assert gathered_count(plain, setting_of(plain, seventy), 0.0) >= 1_000_000_000


def test_a_weight_is_read_as_it_is_stored_before_it_is_quantised() -> None:
    """Where no other tensor is larger: the host holds one in 16 bits."""
    rung = lora_rung(1, NF4)
    setting = setting_of(rung)
    small = tuple(group for group in setting.traces[0].parameters if group.element_count < 32000 * 4096)
    read = replace(setting, traces=(replace(setting.traces[0], parameters=small),))
    host = host_estimate(Strategy(rung, 1, 1), read, 0)
    assert host.unpinned_bytes == 8 * 2 * 4096 * 11008

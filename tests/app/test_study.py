"""The study that the product grew from, by plan: Singh et al., A Study of Optimizations for Fine-tuning Large Language
Models, 2024 (arXiv 2406.02290): Llama-2 on 8 × A100 and 8 × V100, a global batch of 8, LoRA of rank 64 and scale 32 on
q and v. docs/prediction.md says what is not reproduced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from autofit.app.plan import plan
from autofit.app.tools import REAL_TOOLS
from autofit.domain.estimate import Estimate
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.pins import Pins
from autofit.domain.request import Lora
from autofit.domain.strategy import Strategy
from autofit.hardware.machine_spec import parse_machine
from autofit.planning.memory.states import model_states, trained_count
from autofit.planning.setting import Setting
from autofit.store import Store
from tests.builders import GB, LLAMA_7B, make_hardware, make_request, make_rung
from tests.in_process_tracer import start_tracer

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
LORA = Lora(r=64, alpha=32, target_modules=("q_proj", "v_proj"))
LLAMA_70B = replace(
    LLAMA_7B, name="Llama-2-70B", layer_count=80, hidden_size=8192, head_count=64, key_value_head_count=8,
    intermediate_size=28672, parameter_count=68_976_648_192,
)  # fmt: skip


# --- Model states -----------------------------------------------------------------------------------------------------


def states_gb(parameter_count: float, hardware: Any, zero_stage: int = 3) -> float:
    """GB of parameters, gradients and optimizer states on one device."""
    shape = replace(LLAMA_7B, parameter_count=round(parameter_count))
    setting = Setting(make_request(global_batch=hardware.rank_count), hardware, shape, 64)
    states = model_states(Strategy(make_rung(zero_stage), 1, 1), setting)
    return (states.parameters_bytes + states.gradients_bytes + states.optimizer_bytes) / GB


@pytest.mark.parametrize(("parameter_count", "told_gb"), [(7e9, 112), (70e9, 1120)])
def test_16_bytes_a_parameter_without_partitioning(parameter_count: float, told_gb: float) -> None:
    assert states_gb(parameter_count, make_hardware(1, DeviceKind.CUDA)) == pytest.approx(told_gb)


def test_states_of_100_b_are_40_gb_on_each_of_40_devices() -> None:
    assert states_gb(100e9, parse_machine("5x8xA100-40GB")) == pytest.approx(40, rel=0.001)


@pytest.mark.parametrize(("shape", "told"), [(LLAMA_7B, 33.6e6), (LLAMA_70B, 131e6)], ids=["7B", "70B"])
def test_adapters_train_what_is_told(shape: Any, told: float) -> None:
    setting = Setting(make_request(lora=LORA), make_hardware(8, DeviceKind.CUDA), shape, 64)
    assert trained_count(make_rung(3, method=Method.LORA), setting) == pytest.approx(told, rel=0.002)


# --- Runs -------------------------------------------------------------------------------------------------------------

Predicted = Callable[..., Estimate]


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> Predicted:
    """The estimate of one rung, traced for real."""
    path = tmp_path_factory.mktemp("study") / "store.sqlite"
    tools = replace(REAL_TOOLS, open_store=lambda: Store(path), start_tracer=start_tracer)

    @cache
    def estimate(model: str, machine: str, tokens: int, pins: Pins) -> Estimate:
        request = make_request(CONFIGS / model, tokens, global_batch=8, lora=LORA, pins=pins)
        (planned,) = plan(request, (machine,), tell=pytest.fail, tools=tools)
        (candidate,) = planned.candidates
        assert candidate.estimate is not None
        return candidate.estimate

    def of(model: str, machine: str, tokens: int, **pinned: Any) -> Estimate:
        plain = {
            "method": Method.FULL, "gradient_checkpointing": GradientCheckpointing.OFF, "attention": Attention.EAGER,
            "offload": Offload.OPTIMIZER,
        }  # fmt: skip
        return estimate(model, machine, tokens, Pins(**{**plain, **pinned}))

    return of


V100 = "8xV100-32GB,host=2TB"
A100 = "8xA100-80GB,host=2TB"
OFFLOADED = {"method": Method.LORA, "zero_stage": 3, "attention": Attention.SDPA}


@pytest.mark.slow
@pytest.mark.parametrize("is_checkpointing", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize(("model", "told_gb"), [("llama-2-7b", 4.74), ("llama-2-13b", 6.22)])
def test_peaks_of_offloaded_adapters_on_v100(
    predicted: Predicted, model: str, told_gb: float, is_checkpointing: bool
) -> None:
    """Of ZeRO-3 at 256 tokens, the optimizer on the host. The study does not say whether with checkpointing."""
    memory = predicted(
        model, V100, 256, gradient_checkpointing=GradientCheckpointing(is_checkpointing), **OFFLOADED
    ).memory
    assert memory.low_bytes <= told_gb * GB <= memory.high_bytes


@pytest.mark.slow
def test_the_peak_that_is_told_of_70b_needs_its_weights_elsewhere(predicted: Predicted) -> None:
    """15.54 GB, but an eighth of the weights is 17.2. Were the parameters on the host as well, without checkpointing,
    all three peaks would be as predicted."""
    weights_gb = 2 * LLAMA_70B.parameter_count / 8 / GB
    assert weights_gb > 17.2
    assert predicted("llama-2-70b", V100, 256, **OFFLOADED).memory.low_bytes > weights_gb * GB
    for model, told_gb in (("llama-2-7b", 4.74), ("llama-2-13b", 6.22), ("llama-2-70b", 15.54)):
        memory = predicted(model, V100, 256, **{**OFFLOADED, "offload": Offload.ALL}).memory
        assert memory.low_bytes <= told_gb * GB <= memory.high_bytes


@pytest.mark.slow
@pytest.mark.parametrize("is_checkpointing", [False, True], ids=["plain", "checkpointed"])
def test_times_of_offloaded_adapters_on_v100(predicted: Predicted, is_checkpointing: bool) -> None:
    """7B, 13B and 70B take 55, 76 and 278 of a unit."""
    small_s, middle_s, large_s = (
        predicted(
            model, V100, 256, gradient_checkpointing=GradientCheckpointing(is_checkpointing), **OFFLOADED
        ).speed.step_s
        for model in ("llama-2-7b", "llama-2-13b", "llama-2-70b")
    )
    for ratio, told in ((middle_s / small_s, 76 / 55), (large_s / small_s, 278 / 55), (large_s / middle_s, 278 / 76)):
        assert told / 1.5 < ratio < told * 1.5


GROUPS: dict[str, dict[str, Any]] = {
    "plain": {},
    "checkpointing": {"gradient_checkpointing": GradientCheckpointing.ON},
    "LoRA": {"method": Method.LORA},
    "FlashAttention": {"attention": Attention.FLASH_2},
    "no offload": {"offload": Offload.NONE},
}
STAGES = (1, 2, 3)


def figure_2(predicted: Predicted, group: str, zero_stage: int, **pinned: Any) -> Estimate:
    """Llama-2-7B on 8 × A100 at 256 tokens; all but the last group offload the optimizer."""
    return predicted("llama-2-7b", A100, 256, zero_stage=zero_stage, **{**GROUPS[group], **pinned})


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_memory_falls_from_stage_to_stage(predicted: Predicted, group: str) -> None:
    """Peaks may be those of DeepSpeed's start, which takes the same of both where as much is free; what cannot be done
    without falls. Adapters' gradients and states are too small to tell ZeRO-1 from 2."""
    first, second, third = (figure_2(predicted, group, stage).memory for stage in STAGES)
    assert 1.001 * first.peak_bytes > second.peak_bytes > third.peak_bytes
    if group == "LoRA":
        assert first.low_bytes == pytest.approx(second.low_bytes, rel=0.001)
    else:
        assert first.low_bytes > second.low_bytes
    assert second.low_bytes > 2 * third.low_bytes or group == "no offload"


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", STAGES)
def test_adapters_are_best_in_memory_and_time(predicted: Predicted, zero_stage: int) -> None:
    """Where everything is offloaded; checkpointing alone leaves less of 256 tokens than adapters keep, and both
    together the least."""
    lora = figure_2(predicted, "LoRA", zero_stage)
    both = figure_2(predicted, "LoRA", zero_stage, gradient_checkpointing=GradientCheckpointing.ON)
    for other in (figure_2(predicted, group, zero_stage) for group in ("plain", "checkpointing", "FlashAttention")):
        assert lora.speed.step_s < other.speed.step_s / 2
        assert both.memory.peak_bytes < other.memory.peak_bytes
    for other in (figure_2(predicted, group, zero_stage) for group in ("plain", "FlashAttention", "no offload")):
        assert lora.memory.peak_bytes < other.memory.peak_bytes


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", STAGES)
def test_no_offload_is_fast_and_large(predicted: Predicted, zero_stage: int) -> None:
    """The fastest that trains all parameters, at 2 to 4 times the memory of the best."""
    free, lora = (figure_2(predicted, group, zero_stage) for group in ("no offload", "LoRA"))
    for group in ("plain", "checkpointing", "FlashAttention"):
        assert free.speed.step_s < figure_2(predicted, group, zero_stage).speed.step_s / 2
    assert 2 / 1.2 < free.memory.peak_bytes / lora.memory.peak_bytes < 4 * 1.2


FIGURE_3 = {
    "method": Method.LORA,
    "zero_stage": 3,
    "gradient_checkpointing": GradientCheckpointing.ON,
    "offload": Offload.NONE,
}


@pytest.mark.slow
def test_flash_attention_saves_more_the_longer_the_row(predicted: Predicted) -> None:
    saved_bytes, saved_s = [], []
    for tokens in (1024, 2048, 4096):
        eager = predicted("llama-2-70b", A100, tokens, **FIGURE_3)
        flash = predicted("llama-2-70b", A100, tokens, **{**FIGURE_3, "attention": Attention.FLASH_2})
        saved_bytes.append(eager.memory.peak_bytes - flash.memory.peak_bytes)
        saved_s.append(eager.speed.step_s - flash.speed.step_s)
    assert 0 < saved_bytes[0] < saved_bytes[1] < saved_bytes[2]
    assert 0 < saved_s[0] < saved_s[1] < saved_s[2]
    assert eager.memory.high_bytes < parse_machine(A100).device_memory_bytes

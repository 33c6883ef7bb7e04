"""Traces of micro-steps by plain torch, whose weights are fp32, against the allocator of a CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.outcome import Phase
from autofit.domain.trace import MicroStep, SdpaKernel, Trace
from autofit.worker.trace.micro_step_trace import trace
from tests.worker.trace.real_step import PLAIN, RANDOM_STATE_BYTES, RealStep, allocated_bytes, peak_bytes
from tests.worker.trace.test_micro_step_trace import CONFIGS, CUDA, LAYERS, deep, lora

AUTOCAST = replace(PLAIN, is_autocast=True)
ON_GPU = replace(CUDA, is_autocast=True, capability=(8, 0))


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("llama", AUTOCAST),
        ("llama", replace(AUTOCAST, lora=lora("llama"), is_padded=True)),
        ("gemma", replace(AUTOCAST, gradient_checkpointing=GradientCheckpointing.ON)),
        ("phi", replace(AUTOCAST, attention=Attention.EAGER)),
        ("gpt2", replace(AUTOCAST, lora=lora("gpt2"))),
        ("mixtral", AUTOCAST),
    ],
)
def test_the_allocators_peak(name: str, step: MicroStep) -> None:
    traced, real = trace(CONFIGS[name], step), RealStep(CONFIGS[name], step)
    real.model.train()
    real.warm_up()
    seed_bytes = RANDOM_STATE_BYTES * LAYERS if step.gradient_checkpointing.recomputes else 0
    assert peak_bytes(traced.moments[:-1]) == pytest.approx(allocated_bytes(real.train) - seed_bytes, rel=1e-3)


def test_the_allocators_peak_in_an_evaluation() -> None:
    """The weights' copies are there as long as the model computes, though nothing reads them again."""
    traced, real = trace(CONFIGS["llama"], AUTOCAST), RealStep(CONFIGS["llama"], AUTOCAST)
    real.model.eval()
    real.evaluate()
    assert traced.moments[-1].activations_bytes == pytest.approx(allocated_bytes(real.evaluate), rel=1e-3)


def test_copies_of_all_layers_last_until_the_forward_pass_is_over_and_not_longer() -> None:
    """A few layers tell it of many: what the forward pass leaves is not what the backward pass finds."""
    config, step = deep("llama", 9), replace(ON_GPU, gradient_checkpointing=GradientCheckpointing.ON)
    short, full = trace(config, step), trace(config, step, at_full_depth=True)
    assert [moment.activations_bytes for moment in short.moments] == [one.activations_bytes for one in full.moments]
    forward = [moment.activations_bytes for moment in full.moments if moment.phase is Phase.FORWARD]
    backward = [moment.activations_bytes for moment in full.moments if moment.phase is Phase.BACKWARD]
    assert max(forward) - max(backward[2:]) > full.trained_count // 2  # 2 bytes of all but the embeddings


def test_trained_parameters_are_fp32_and_frozen_ones_are_not() -> None:
    whole, adapted = (trace(CONFIGS["llama"], replace(ON_GPU, lora=one)) for one in (None, lora("llama")))
    assert _widths(whole) == {(True, 4)}
    assert _widths(adapted) == {(True, 4), (False, 2)}


def _widths(traced: Trace) -> set[tuple[bool, int]]:
    return {(group.is_trained, group.element_bytes) for group in traced.parameters}


def test_a_gpus_autocast_computes_powers_in_fp32() -> None:
    """Phi's GELU cubes its input, which is 16 bits wide; Llama's layers have nothing like it."""
    more = {}
    for name in ("phi", "llama"):
        steps = (replace(AUTOCAST, kind=kind, gradient_checkpointing=GradientCheckpointing.OFF) for kind in DeviceKind)
        by_kind = {step.kind: trace(CONFIGS[name], step) for step in steps}
        more[name] = peak_bytes(by_kind[DeviceKind.CUDA].moments) - peak_bytes(by_kind[DeviceKind.CPU].moments)
    assert more["phi"] > more["llama"]


@pytest.mark.parametrize("attention", [Attention.SDPA, Attention.FLASH_2, Attention.FLEX])
def test_fused_attention_is_given_16_bits(attention: Attention) -> None:
    """What goes through the layers is fp32, with which no fused kernel of Ampere would run."""
    traced = trace(CONFIGS["llama"], replace(ON_GPU, attention=attention))
    assert traced.sdpa_kernels == ((SdpaKernel.FLASH,) if attention is Attention.SDPA else ())
    eager = trace(CONFIGS["llama"], replace(ON_GPU, attention=Attention.EAGER))
    assert peak_bytes(traced.moments) < peak_bytes(eager.moments)


def test_fp16_is_cast_as_bf16_is() -> None:
    one, other = (trace(CONFIGS["llama"], replace(ON_GPU, dtype=dtype)) for dtype in (Dtype.BF16, Dtype.FP16))
    assert [moment.activations_bytes for moment in one.moments] == [m.activations_bytes for m in other.moments]

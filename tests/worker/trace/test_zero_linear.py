"""The linear layer of ZeRO-3 as the tracer puts it in place."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from transformers import LlamaConfig

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.outcome import Phase
from autofit.domain.request import Lora
from autofit.domain.trace import MicroStep
from autofit.worker.trace.micro_step_trace import trace
from autofit.worker.trace.zero_linear import keeping_linear

STEP = MicroStep(Lora(8), Attention.EAGER, GradientCheckpointing.OFF, Dtype.BF16, DeviceKind.CUDA, 1, 64, False)


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 4, 5)])
def test_it_computes_what_torchs_own_computes(has_bias: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    values = [torch.randn(shape), torch.randn(3, 5), *([torch.randn(3)] if has_bias else [])]
    found = []
    for linear in (functional.linear, keeping_linear):
        inputs = [value.clone().requires_grad_() for value in values]
        output = linear(*inputs)
        output.square().sum().backward()
        found.append([output, *(value.grad for value in inputs)])
    for expected, seen in zip(*found, strict=True):
        torch.testing.assert_close(seen, expected)


def test_frozen_layers_keep_what_torch_would_drop() -> None:
    """Each layer keeps the input of its last matrix; the inputs of the others are kept for adapters and norms."""
    layers, wide = 3, 96
    config = LlamaConfig(
        hidden_size=32, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=wide, vocab_size=64
    )

    def held_bytes(step: MicroStep) -> int:
        return max(moment.activations_bytes for moment in trace(config, step).moments if moment.phase is Phase.FORWARD)

    more_bytes = held_bytes(replace(STEP, keeps_linear_inputs=True)) - held_bytes(STEP)
    assert more_bytes >= layers * 64 * wide * 2
    trained = replace(STEP, lora=None)
    assert held_bytes(replace(trained, keeps_linear_inputs=True)) == held_bytes(trained)

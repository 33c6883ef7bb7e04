"""What checkpointed layers keep on a GPU, layer by layer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import LlamaConfig

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.outcome import Phase
from autofit.domain.trace import MicroStep
from autofit.worker.trace.micro_step_trace import trace

ROWS, TOKENS, HIDDEN, HEADS, LAYERS = 2, 128, 64, 4, 8
CONFIG = LlamaConfig(
    vocab_size=256, hidden_size=HIDDEN, intermediate_size=160, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
    num_key_value_heads=2,
)  # fmt: skip
STEP = MicroStep(None, Attention.SDPA, GradientCheckpointing.ON, Dtype.BF16, DeviceKind.CUDA, ROWS, TOKENS, False)
INPUT_BYTES = 2 * ROWS * TOKENS * HIDDEN
ATTENDED_BYTES = INPUT_BYTES + 4 * ROWS * TOKENS * HEADS  # the output, and a sum of each row of scores in fp32


def held_bytes(checkpointing: GradientCheckpointing, attention: Attention = Attention.SDPA) -> int:
    """What is there when the last layer's forward pass is over, at the loss."""
    moments = trace(CONFIG, replace(STEP, gradient_checkpointing=checkpointing, attention=attention)).moments
    return [one.activations_bytes for one in moments if one.phase is Phase.FORWARD][-1]


@pytest.mark.parametrize("attention", [Attention.SDPA, Attention.FLASH_2])
def test_attention_is_kept_whichever_kernel_computes_it(attention: Attention) -> None:
    kept = held_bytes(GradientCheckpointing.SELECTIVE, attention) - held_bytes(GradientCheckpointing.ON, attention)
    assert kept == pytest.approx(LAYERS * ATTENDED_BYTES, rel=0.05)


def test_what_lies_on_the_host_is_not_on_the_device() -> None:
    moved = held_bytes(GradientCheckpointing.ON) - held_bytes(GradientCheckpointing.OFFLOAD)
    assert moved == pytest.approx(LAYERS * INPUT_BYTES, rel=0.01)


def test_half_of_the_layers_are_kept_whole() -> None:
    every, none, half = (
        held_bytes(one) for one in (GradientCheckpointing.ON, GradientCheckpointing.OFF, GradientCheckpointing.EVERY_2)
    )
    assert half == pytest.approx((every + none) / 2, rel=0.01)

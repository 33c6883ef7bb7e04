"""What is said of a model that cannot be built, and of one that only the tracer cannot follow."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import GPT2Config

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.request import Lora
from autofit.domain.trace import MicroStep
from autofit.worker.model.unbuildable import BuildRefused, building, first_sentence
from autofit.worker.trace.micro_step_trace import trace

STEP = MicroStep(None, Attention.SDPA, GradientCheckpointing.OFF, Dtype.BF16, DeviceKind.CPU, 1, 16, False)
GPT2 = GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=40)


def test_adapters_for_modules_that_the_family_does_not_have_cannot_be_built() -> None:
    with pytest.raises(BuildRefused, match="the adapters cannot be built: no module is named q_proj"):
        trace(GPT2, replace(STEP, lora=Lora(8, 16, ("q_proj", "v_proj"))))


def test_a_configuration_that_its_class_refuses_cannot_be_built() -> None:
    wrong = GPT2Config(n_embd=16, n_layer=2, n_head=3, vocab_size=40)
    with pytest.raises(BuildRefused, match=r"the model cannot be built: .*must be divisible by num_heads"):
        trace(wrong, STEP)


def test_what_torch_objects_to_while_a_model_is_built_says_nothing_of_a_real_one() -> None:
    with pytest.raises(RuntimeError, match="meta"), building("the model"):
        raise RuntimeError("Tensor.item() cannot be called on meta tensors")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (KeyError(7), None),
        (AttributeError("'NoneType' object has no attribute 'size'"), None),
        (NotImplementedError("aten.nonzero.default"), None),
        (ValueError(), None),
        (ValueError("Target modules {'x'} not found. Please check them."), "Target modules {'x'} not found"),
        (ValueError("Not valid:\n    ValueError: `layers` (4) must be 54"), "Not valid: `layers` (4) must be 54"),
        (ImportError("the package\nis old"), "the package"),
    ],
)
def test_what_python_says_of_code_is_not_told_and_no_exception_is_named(error: Exception, sentence: str | None) -> None:
    assert first_sentence(error) == sentence

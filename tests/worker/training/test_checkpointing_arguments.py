"""What a rung's checkpointing is to the trainer, beside the user's own words, and what it tells torch's allocator."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from trl.models import enable_selective_activation_checkpointing
from trl.models.utils import disable_gradient_checkpointing

from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.planning.memory.pinned import VARIABLE, WORDS
from autofit.worker.training.checkpointing_arguments import checkpoint_as_told, checkpointing_arguments
from autofit.worker.training.pinned_blocks import keep_pinned_blocks

TINY = LlamaConfig(
    vocab_size=32, hidden_size=8, intermediate_size=8, num_hidden_layers=4, num_attention_heads=1, num_key_value_heads=1
)
USERS = {"gradient_checkpointing_kwargs": '{"use_reentrant": true}'}


@pytest.mark.parametrize(
    ("checkpointing", "extra", "keys"),
    [
        (GradientCheckpointing.OFF, USERS, None),
        (GradientCheckpointing.ON, {}, None),
        (GradientCheckpointing.ON, USERS, {"use_reentrant": True}),
        (GradientCheckpointing.EVERY_2, USERS, {"use_reentrant": True, "every_n_layers": 2}),
        (GradientCheckpointing.OFFLOAD, {}, {"offload": True}),
        (GradientCheckpointing.SELECTIVE, {}, None),
    ],
)
def test_a_rung_says_how_it_checkpoints(
    checkpointing: GradientCheckpointing, extra: dict[str, str], keys: dict[str, Any] | None
) -> None:
    told = checkpointing_arguments(checkpointing, extra)
    assert told == {
        "gradient_checkpointing": checkpointing is not GradientCheckpointing.OFF,
        "activation_checkpointing_kwargs": keys,
        "gradient_checkpointing_kwargs": None,
    }


@pytest.mark.parametrize(("words", "count"), [(WORDS, 1), (f"backend:native,{WORDS}", 1), ("backend:native", 0)])
def test_blocks_are_kept_where_they_would_be_given_back(
    monkeypatch: pytest.MonkeyPatch, words: str, count: int
) -> None:
    told: list[str] = []
    monkeypatch.setenv(VARIABLE, words)
    monkeypatch.setattr(torch._C, "_accelerator_setAllocatorSettings", told.append)
    keep_pinned_blocks()
    assert len(told) == count


def checkpointed(model: LlamaForCausalLM) -> list[bool]:
    return [layer.gradient_checkpointing for layer in model.model.layers]


@pytest.mark.parametrize("is_selective", [False, True])
def test_a_model_is_checkpointed_as_before_once_a_reference_has_run(is_selective: bool) -> None:
    """trl hands transformers' own keys on to torch, which knows none of them, as the next layer runs."""
    model = LlamaForCausalLM(TINY).train()
    checkpoint_as_told(model)
    if is_selective:
        enable_selective_activation_checkpointing(model)
    model.activation_checkpointing_enable(every_n_layers=2)
    with disable_gradient_checkpointing(model, {"every_n_layers": 2, "use_reentrant": False}):
        assert checkpointed(model) == [False] * 4
    assert checkpointed(model) == [True, False] * 2
    model(torch.ones(1, 4, dtype=torch.long), labels=torch.ones(1, 4, dtype=torch.long)).loss.backward()

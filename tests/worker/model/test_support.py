"""What a model's class lacks of checkpointing, by how it checkpoints."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from autofit.worker.model.support import lacking

CONFIG = LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=4, num_attention_heads=2)
ROBERTA = RobertaConfig(
    vocab_size=32, hidden_size=16, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    max_position_embeddings=16,
)  # fmt: skip
BETWEEN = ["every-2", "selective", "offload"]


@pytest.fixture
def model() -> LlamaForCausalLM:
    with torch.device("meta"):
        return LlamaForCausalLM(CONFIG)


def lacked(model: LlamaForCausalLM) -> list[str]:
    return [one.word for one in lacking(model) if one.knob == "gradient_checkpointing"]


def test_a_model_of_transformers_has_all(model: LlamaForCausalLM) -> None:
    assert lacked(model) == []


def test_what_has_none_lacks_every_layers(model: LlamaForCausalLM) -> None:
    model.supports_gradient_checkpointing = False
    assert lacked(model) == ["on"]


def test_what_has_its_own_way_lacks_what_is_between(model: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "_set_gradient_checkpointing", lambda module, value=False: None, raising=False)
    assert lacked(model) == BETWEEN


def test_layers_that_are_not_told_apart_are_checkpointed_together(model: LlamaForCausalLM) -> None:
    model.model.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(4))
    assert lacked(model) == ["every-2"]


@pytest.mark.parametrize(
    ("model_class", "config", "words"),
    [
        (LlamaForSequenceClassification, CONFIG, []),
        (
            RobertaForSequenceClassification,  # whose head is two layers
            ROBERTA,
            ["int8", "nf4"],
        ),
    ],
)
def test_a_head_that_would_be_quantised_cannot_be_trained(
    model_class: type[PreTrainedModel], config: PretrainedConfig, words: list[str]
) -> None:
    with torch.device("meta"):
        model = model_class(config)
    lacking_bits = [one for one in lacking(model, scores=True) if one.knob == "quantization"]
    assert sorted(one.word for one in lacking_bits) == words
    assert all("its head quantised, which must be trained" in one.why for one in lacking_bits)

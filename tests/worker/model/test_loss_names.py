"""What trl's loss finds in models that call it otherwise."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, ModernBertDecoderConfig
from trl.trainer.utils import add_fused_lm_head

from autofit.worker.model.loss_names import name_for_loss, why_no_loss
from tests.models.families import tiny_config

IDS = torch.arange(4, 36).view(2, 16)


@pytest.mark.parametrize("model_type", ["granitemoe", "phimoe", "deepseek_v4", "mixtral"])
def test_the_routers_loss_is_the_models_own(model_type: str) -> None:
    model = AutoModelForCausalLM.from_config(tiny_config(model_type), dtype=torch.float32).eval()
    batch = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), "labels": IDS, "output_router_logits": True}
    with torch.no_grad():
        own = model(**batch, use_cache=False)
        name_for_loss(model)
        add_fused_lm_head(model)
        fused = model(**batch, fused_lm_head=True)
    assert fused.aux_loss.item() == pytest.approx(own.aux_loss.item(), rel=1e-5)
    assert fused.loss.item() == pytest.approx(own.loss.item(), rel=1e-5)
    assert "num_experts" not in model.config.to_dict()  # it would be saved


@pytest.mark.parametrize("model_type", ["recurrent_gemma", "inkling_text", "gemma2", "llama"])
def test_the_loss_is_that_of_the_models_own_logits(model_type: str) -> None:
    """Large weights, so that a cap or a scale shows."""
    model = AutoModelForCausalLM.from_config(tiny_config(model_type), dtype=torch.float32).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(100)
        own = model(input_ids=IDS, labels=IDS, use_cache=False)
        name_for_loss(model)
        add_fused_lm_head(model)
        fused = model(input_ids=IDS, labels=IDS, fused_lm_head=True)
    assert fused.loss.item() == pytest.approx(own.loss.item(), rel=1e-4)


def test_a_head_of_several_layers_is_refused() -> None:
    model = AutoModelForCausalLM.from_config(
        ModernBertDecoderConfig(
            num_hidden_layers=1, hidden_size=64, num_attention_heads=4, pad_token_id=0, vocab_size=64
        )
    )
    assert "leaves out the layers within the head" in (why_no_loss(model) or "")
    assert why_no_loss(AutoModelForCausalLM.from_config(tiny_config("gpt2"))) is None


@pytest.mark.parametrize("model_type", ["llama4", "mllama", "llama"])
def test_the_layers_are_those_below_the_head(model_type: str) -> None:
    model = AutoModelForCausalLM.from_config(tiny_config(model_type))
    name_for_loss(model)
    assert model.base_model is model.model

"""A merged model is the one that PEFT makes of base and adapter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    GenerationConfig,
)

from autofit.domain.request import ALL_LINEAR, Lora
from autofit.inputs.model_files import read_model_files
from autofit.inputs.scoring_head import check_reward
from autofit.worker.model.adapters import lora_config
from autofit.worker.model.loading import load_model
from autofit.worker.training.full_run.merge_adapter import MergedWeights, merge
from tests.models.families import tiny_config, write_model

EXPERTS = ("q_proj", "w1", "w2", "w3")


def write_base(model_type: str, folder: Path) -> Path:
    """As people download it, with weights."""
    write_model(model_type, folder)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_config(model_type), dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def write_adapter(base: Path, lora: Lora, folder: Path) -> Path:
    """One that has learned something."""
    model = AutoModelForCausalLM.from_pretrained(base)
    adapted = get_peft_model(model, lora_config(lora, model))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.1)
    adapted.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    GenerationConfig(eos_token_id=[2, 9]).save_pretrained(folder)
    return folder


@pytest.mark.filterwarnings("ignore::UserWarning:peft", "ignore::RuntimeWarning:peft")
@pytest.mark.parametrize(
    ("model_type", "words"),
    [("gpt2", (ALL_LINEAR,)), ("llama", (ALL_LINEAR, "embed_tokens")), ("mixtral", EXPERTS)],
)
def test_a_merged_model_is_the_one_that_peft_makes(model_type: str, words: tuple[str, ...], tmp_path: Path) -> None:
    """To the last bit: transposed layers, embeddings, and experts that are one tensor in the model."""
    base = write_base(model_type, tmp_path / "base")
    adapter = write_adapter(base, Lora(r=4, target_modules=words), tmp_path / "adapter")
    merge(str(base), adapter, tmp_path / "ours", torch.bfloat16, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().save_pretrained(tmp_path / "theirs")
    ours, theirs, before = (folder / "model.safetensors" for folder in (tmp_path / "ours", tmp_path / "theirs", base))
    assert ours.read_bytes() == theirs.read_bytes()
    assert ours.read_bytes() != before.read_bytes()
    assert GenerationConfig.from_pretrained(tmp_path / "ours").eos_token_id == [2, 9]
    assert AutoTokenizer.from_pretrained(tmp_path / "ours").vocab_size == AutoTokenizer.from_pretrained(base).vocab_size


def test_a_reward_model_is_merged_with_the_head_that_it_was_trained_with(tmp_path: Path) -> None:
    base, adapter = write_base("llama", tmp_path / "base"), tmp_path / "adapter"
    trained = load_model(str(base), dtype=torch.float32, trust_remote_code=False, scores=True)
    adapted = get_peft_model(trained, lora_config(Lora(r=4), trained, scores=True))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    adapted.save_pretrained(adapter)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.save_pretrained(adapter)
    trained.config.pad_token_id = tokenizer.pad_token_id
    merge(str(base), adapter, tmp_path / "ours", torch.float32, trust_remote_code=False)
    check_reward(read_model_files(str(tmp_path / "ours")))
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "ours")
    words = tokenizer("a row of some words", return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(merged(**words).logits, adapted.eval()(**words).logits, rtol=1e-4, atol=1e-5)
    assert merged.config.pad_token_id == tokenizer.pad_token_id


def test_weights_are_merged_for_a_moment_alone(tmp_path: Path) -> None:
    """What the base holds comes back, and takes no second copy of the model."""
    base = write_base("llama", tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(base)
    adapter = write_adapter(base, Lora(r=4, target_modules=(ALL_LINEAR,)), tmp_path / "adapter")
    weight = model.model.layers[0].self_attn.q_proj.weight
    began, place = weight.detach().clone(), weight.data_ptr()
    merging = MergedWeights(PeftModel.from_pretrained(model, str(adapter)))
    for _ in range(2):
        with merging.merged([weight]):
            assert not torch.equal(weight, began)
            changed = weight.detach().clone()
        assert torch.equal(weight, began)
        assert weight.data_ptr() == place
    with merging.merged([weight]):
        assert torch.equal(weight, changed)

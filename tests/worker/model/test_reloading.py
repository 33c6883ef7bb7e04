"""Weights read again from a checkpoint of their own training, whatever their files call them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from autofit.worker.model.reloading import reload_weights
from tests.models.families import tiny_config
from tests.worker.saving.written import save

KINDS = {
    "gpt2": "tied weights",
    "gemma3": "a tower, and another prefix in the file",
    "mixtral": "experts in one tensor, one by one in the file",
    "hrm_text": "several tensors that are one in the file",
    "deepseek_v3": "a buffer in fp32",
}


def make(model_type: str, seed: int) -> PreTrainedModel:
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(tiny_config(model_type), dtype=torch.float32)


def check_same(one: PreTrainedModel, other: PreTrainedModel) -> None:
    others = other.state_dict()
    assert [name for name, tensor in one.state_dict().items() if not torch.equal(tensor, others[name])] == []


@pytest.mark.parametrize("model_type", KINDS)
def test_a_model_is_what_it_was_when_it_was_saved(model_type: str, tmp_path: Path) -> None:
    trained, model = make(model_type, 1), make(model_type, 2)
    save(trained, tmp_path, most_shard_bytes=200_000)
    places = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    reload_weights(model, tmp_path)
    check_same(model, trained)
    assert places == {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}  # an optimizer's as well


@pytest.mark.parametrize("model_type", ["gemma3", "mixtral"])
def test_what_was_loaded_is_read_as_it_was_loaded(model_type: str, tmp_path: Path) -> None:
    make(model_type, 1).save_pretrained(tmp_path / "base")
    trained = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(1.0)
    save(trained, tmp_path / "trained")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    reload_weights(model, tmp_path / "trained")
    check_same(model, trained)


def test_a_weight_that_is_not_there_is_no_checkpoint(tmp_path: Path) -> None:
    save(make("gpt2", 1), tmp_path)
    model = make("gpt2", 2)
    model.more = torch.nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match=r"lacks more\.bias, more\.weight"):
        reload_weights(model, tmp_path)

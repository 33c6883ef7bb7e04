"""Models with a head that scores, made of causal models' checkpoints."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, OPTConfig, PretrainedConfig, set_seed

from autofit.domain.errors import UsageError
from autofit.domain.request import Lora
from autofit.domain.task import Task
from autofit.worker.model.adapters import with_adapters
from autofit.worker.model.configuration import load_config
from autofit.worker.model.description import describe
from autofit.worker.model.heads import scoring_head
from autofit.worker.model.loading import load_model
from tests.builders import make_request

CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48,
        vocab_size=96,
    ),
    "opt": OPTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=48, vocab_size=96, word_embed_proj_dim=32
    ),
    "gpt2": GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=96, bos_token_id=1, eos_token_id=2),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """What transformers says reaches pytest."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)


def stored(name: str, folder: Path) -> str:
    AutoModelForCausalLM.from_config(CONFIGS[name]).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_new_head_is_drawn_by_the_seed_and_nothing_is_said_of_it(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = stored(name, tmp_path)
    heads = []
    with caplog.at_level(logging.WARNING, logger="transformers"):
        for _ in range(2):
            set_seed(7)
            model = load_model(folder, dtype=torch.float32, trust_remote_code=False, scores=True)
            heads.append(scoring_head(model)["score"].weight)
    assert model.config.num_labels == 1
    assert torch.equal(*heads)
    assert 0.0 < float(heads[0].detach().abs().mean()) < 1.0
    assert "score" not in caplog.text
    assert "lm_head" not in caplog.text


def test_what_is_really_missing_is_still_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = AutoModelForCausalLM.from_config(CONFIGS["llama"])
    state = {name: tensor for name, tensor in model.state_dict().items() if "layers.1.mlp.up_proj" not in name}
    model.save_pretrained(tmp_path, state_dict=state)
    with caplog.at_level(logging.WARNING, logger="transformers"):
        load_model(str(tmp_path), dtype=torch.float32, trust_remote_code=False, scores=True)
    assert "layers.1.mlp.up_proj" in caplog.text


def test_the_head_is_trained_beside_adapters(tmp_path: Path) -> None:
    model = load_model(stored("llama", tmp_path), dtype=torch.float32, trust_remote_code=False, scores=True)
    adapted = with_adapters(model, Lora(), scores=True)
    trained = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert [name for name in trained if "score" in name] == ["base_model.model.score.modules_to_save.default.weight"]
    assert all("lora_" in name or "score" in name for name in trained)


def test_the_facts_of_a_reward_model_count_its_head_and_no_other(tmp_path: Path) -> None:
    folder = stored("llama", tmp_path)
    words, scores = (describe(make_request(folder, task=task)) for task in (Task.SFT, Task.REWARD))
    assert words.parameter_count - scores.parameter_count == 96 * 32 - 32
    of_adapters = [
        sum(g.element_count * g.tensor_count for g in facts.adapted if g.is_trained) for facts in (words, scores)
    ]
    assert of_adapters[1] - of_adapters[0] == 32


def test_a_family_without_such_a_class_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "olmoe"}')
    load_config(str(tmp_path), trust_remote_code=False)
    with pytest.raises(UsageError) as caught:
        load_config(str(tmp_path), trust_remote_code=False, scores=True)
    assert str(caught.value).startswith(f"{tmp_path} cannot become a reward model")
    assert "olmoe" in str(caught.value)
    assert "choose a model of a family that has one" in str(caught.value)

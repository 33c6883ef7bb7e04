"""Models of two layers, otherwise as their families publish them: on the meta device, or written to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from autofit.domain.knobs.attention import Attention
from autofit.worker.model.loading import build_model

_USUAL = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 40,
}  # fmt: skip
_OWN: dict[str, dict[str, Any]] = {
    "bamba": {
        "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_n_groups": 1, "attn_layer_indices": [1],
    },
    "bloom": {"n_layer": 2, "n_head": 4},
    "deepseek_v3": {
        "q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
        "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "moe_intermediate_size": 16, "first_k_dense_replace": 1,
    },
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 4, "n_groups": 1},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 40},
    "phi3": {"pad_token_id": 0},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "xglm": {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 48},
}  # fmt: skip
_ONLY_OWN = ("gpt2", "mpt", "xglm")  # whose classes know their sizes by their own names alone


def small_config(model_type: str, **changed: Any) -> PretrainedConfig:
    usual = {"vocab_size": 64} if model_type in _ONLY_OWN else _USUAL
    return CONFIG_MAPPING[model_type](**{**usual, **_OWN.get(model_type, {}), **changed})


def small_model(model_type: str, **changed: Any) -> PreTrainedModel:
    return _on_meta(small_config(model_type, **changed), Attention.EAGER)


def seeing_model(attention: Attention = Attention.EAGER) -> PreTrainedModel:
    """Gemma-3 with a tower that sees, whose modules are called as those of its text decoder are."""
    tower = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    text = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64, "head_dim": 8}
    return _on_meta(CONFIG_MAPPING["gemma3"](text_config=text, vision_config=tower), attention)


def _on_meta(config: PretrainedConfig, attention: Attention) -> PreTrainedModel:
    with torch.device("meta"):
        return build_model(config, dtype=torch.bfloat16, attention=attention)


def write(folder: Path, config: PretrainedConfig, **architecture: Any) -> str:
    """Writes config.json; returns the folder as `--model` names it."""
    config.architectures = architecture.get("architectures", [])
    config.save_pretrained(folder)
    return str(folder)


def write_weights(folder: Path, model_type: str = "llama", *, shard: str = "1GB", **changed: Any) -> Path:
    """A small model of random weights in fp32."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(small_config(model_type, **changed), dtype=torch.float32)
    model.save_pretrained(folder, max_shard_size=shard)
    return folder

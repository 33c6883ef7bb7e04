"""Every family of transformers' causal language models, shrunk to a model of a moment: its configuration class filled
with small sizes, whatever they are called there."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
)

_TOKENIZER = Path(__file__).parents[2] / "examples" / "tiny-llama"

VOCABULARY = 2048  # that of the tokenizer in examples/tiny-llama
LAYERS = 2
PATTERN_LAYERS = 4  # of classes whose layers are of several kinds
HIDDEN, HEADS, KEY_VALUE_HEADS, HEAD = 64, 4, 2, 16
WIDTH, EXPERT_WIDTH, EXPERTS, EXPERTS_PER_TOKEN = 128, 32, 4, 2
POSITIONS = 256

_SIZES: dict[str, Any] = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks"), LAYERS),
    **dict.fromkeys(("decoder_layers", "encoder_layers", "num_encoder_layers", "num_decoder_layers", "depth"), LAYERS),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "embedding_size", "embedding_dim", "emb_dim"), HIDDEN),
    **dict.fromkeys(("hidden_size_global", "out_hidden_size", "word_embed_proj_dim", "backbone_hidden_size"), HIDDEN),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"), HEADS),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads", "swa_num_attention_heads"), HEADS),
    **dict.fromkeys(("num_decoder_attention_heads", "num_encoder_attention_heads"), HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "kv_n_heads", "swa_num_key_value_heads"), KEY_VALUE_HEADS),
    **dict.fromkeys(("head_dim", "kv_channels", "dim_head", "swa_head_dim", "qk_head_dim"), HEAD),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "dff", "ffn_hidden_size", "dim_ff"), WIDTH),
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim", "d_inner", "intermediate_size_mlp"), WIDTH),
    **dict.fromkeys(("dense_intermediate_size", "prefix_dense_intermediate_size", "feed_forward_size"), WIDTH),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), EXPERT_WIDTH),
    **dict.fromkeys(("shared_experts_intermediate_size", "shared_intermediate_size"), EXPERT_WIDTH),
    **dict.fromkeys(("moe_shared_expert_intermediate_size", "expert_ffn_hidden_size"), EXPERT_WIDTH),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), EXPERTS),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"), EXPERTS_PER_TOKEN),
    **dict.fromkeys(("moe_top_k", "top_k_experts", "zero_expert_num"), EXPERTS_PER_TOKEN),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("n_group", "topk_group"), 1),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"), 1),
    # multi-head latent attention, and its index of keys
    "q_lora_rank": 32, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16, "v_head_dim": 16,
    "index_head_dim": 16, "index_n_heads": 2, "index_topk": 16, "o_lora_rank": 16, "o_groups": 2,
    # state spaces and linear attention
    "mamba_d_state": 16, "mamba_n_heads": 8, "mamba_num_heads": 8, "mamba_head_dim": 16, "mamba_d_head": 16,
    "mamba_chunk_size": 8, "chunk_size": 8, "ssm_state_size": 16, "state_size": 16, "mamba_d_ssm": 128,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "linear_head_dim": 16, "linear_num_heads": 4, "mamba_dt_rank": 8, "time_step_rank": 8, "lru_width": HIDDEN,
    # positions and windows
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "model_max_length"), POSITIONS),
    **dict.fromkeys(("max_target_positions", "max_source_positions", "context_length"), POSITIONS),
    **dict.fromkeys(("sliding_window", "sliding_window_size", "attention_window_size", "local_attention"), 16),
    **dict.fromkeys(("window_size", "keep_window_size", "attention_chunk_size"), 16),
    "rotary_dim": 8, "query_pre_attn_scalar": HEAD,
    # towers, whose weights take part in no step on text
    "image_size": 16, "patch_size": 4,
}  # fmt: skip
"""Small sizes by the name that a configuration class gives them."""

_TOKENS = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}

_LATENT = {"head_dim": 8, "qk_head_dim": 24, "num_key_value_heads": HEADS}
"""Of multi-head latent attention, where a head of the keys has a part with positions and one without."""

_MIXED = ["sliding_attention", "full_attention"] * 2
_RECURRENT = ["linear_attention", "full_attention"] * 2
_TOWER = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
_GEMMA4 = {"layer_types": _MIXED, "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8}

_DOTS = {
    "swa_num_attention_heads": HEADS,
    "swa_num_key_value_heads": HEADS,
    "swa_q_lora_rank": 32,
    "swa_kv_lora_rank": 16,
    "swa_head_dim": 24,
    "swa_qk_nope_head_dim": 16,
    "swa_v_head_dim": 16,
    "head_dim": 24,
}
_QWEN4 = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 16,
    "indexer_compress_ratio": 4,
    "hc_lowrank": 8,
    "ple_layer_ids": [1],
    "heads_per_ngram": 2,
    "ngram_vocab_size_base": 512,
    "split_ngram_parts": 2,
}

_SPECIAL: dict[str, dict[str, Any]] = {
    "axk2": {"head_dim": HEAD, "layer_types": None},
    "bailing_hybrid": {"layer_group_size": 2},
    "bamba": {"num_hidden_layers": 4, "attn_layer_indices": [1, 3]},
    "blt": {"encoder_hash_byte_group_vocab": 512},
    "cohere_compass_text": {
        "layer_types": _MIXED,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]} for kind in _MIXED[:2]
        },
    },
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "clip_qkv": 8}},
    "dots3_note_text": _DOTS,
    "fuyu": {"text_config": {"model_type": "persimmon"}},
    "gemma3": {
        "text_config": {"layer_types": _MIXED},
        "vision_config": {"model_type": "siglip_vision_model", **_TOWER},
        "mm_tokens_per_image": 4,
    },
    "gemma3_text": {"layer_types": _MIXED},
    "gemma3n_text": {
        **_GEMMA4,
        "num_kv_shared_layers": 2,
        "altup_num_inputs": 2,
        "laurel_rank": 8,
        "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
    },
    "gemma4": {"text_config": {**_GEMMA4, "global_head_dim": 32}, "vision_config": _TOWER},
    "gemma4_text": {**_GEMMA4, "global_head_dim": 32, "enable_moe_block": True},
    "gemma4_unified": {
        "text_config": {"layer_types": _MIXED, "global_head_dim": 32},
        "vision_config": {"mm_embed_dim": HIDDEN, "output_proj_dims": HIDDEN, "mm_posemb_size": 16},
    },
    "gemma4_unified_text": {"layer_types": _MIXED, "global_head_dim": 32},
    "glm4_moe_lite": {"head_dim": 8},
    "got_ocr2": {"text_config": {"model_type": "qwen2"}, "vision_config": {"global_attn_indexes": [1]}},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": _RECURRENT},
    "inkling_text": {"local_layer_ids": [0, 2]},
    "jamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": {"layer_types": _RECURRENT},
    "kolibri1": {"layer_types": _MIXED},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "mellum": {"layer_types": _MIXED},
    "ministral": {"layer_types": _MIXED},
    "qwen4_exp": {"text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {
        "is_decoder": True,
        "axial_pos_embds": False,
        "attn_layers": ["local", "lsh"],
        "attention_head_size": HEAD,
        "local_attn_chunk_length": 16,
        "lsh_attn_chunk_length": 16,
        "num_buckets": 2,
    },
    "zamba": {"num_hidden_layers": 5, "attn_layer_period": 2, "attn_layer_offset": 1},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid"] * 2},
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
}
"""What a family needs beside, or otherwise; of a configuration of parts, part by part."""

_ENCODER = "reads both ways: a masked language model, which its own head makes no decoder"
_DECODER_OF_TWO = "the decoder of an encoder and a decoder: parts of it read an encoder that is not there"

LEFT_OUT: dict[str, str] = {
    **dict.fromkeys(
        (
            "bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "megatron-bert",
            "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl",
            "xlm", "xlnet", "xmod",
        ),
        _ENCODER,
    ),
    **dict.fromkeys(
        (
            "bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "marian", "mbart", "mvp", "pegasus", "plbart",
            "prophetnet", "trocr", "whisper",
        ),
        _DECODER_OF_TWO,
    ),
    **dict.fromkeys(("moshi", "moss_transcribe_diarize", "musicgen", "musicgen_melody"), "reads or writes sound"),
    **dict.fromkeys(
        ("gemma4_assistant", "gemma4_unified_assistant"), "drafts for another model, whose keys and values it reads"
    ),
    "modernbert-decoder": "trl's loss leaves out the layers within its head, and so it is refused",
    "dots3_note": "its towers do not shrink; the text alone is dots3_note_text",
    "gemma3n": "its towers need timm and Pillow; the text alone is gemma3n_text",
    "git": "its own loss counts the tokens of an image, which text alone does not have",
}  # fmt: skip
"""Entries of the mapping that are no family to train here, with the reason."""

FAMILIES = tuple(sorted(set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - set(LEFT_OUT)))


def write_model(model_type: str, folder: Path) -> Path:
    """The folder of a family's model, new, as people download it but for the weights: configuration and tokenizer."""
    config = tiny_config(model_type)
    published = {**MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, **MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES}
    config.architectures = [published[model_type]]
    config.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(_TOKENIZER / name, folder)
    return folder


def tiny_config(model_type: str) -> PretrainedConfig:
    """The small configuration of a family, as its class fills it."""
    return CONFIG_MAPPING[model_type](**_fields(CONFIG_MAPPING[model_type], _SPECIAL.get(model_type, {})))


def _fields(kind: type[PretrainedConfig], special: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in dataclasses.fields(kind)}
    parts = {name: _part(part, special.get(name, {})) for name, part in kind.sub_configs.items()}
    special = {name: value for name, value in special.items() if name not in parts}
    sizes = {name: size for name, size in (_SIZES | _TOKENS).items() if name in names}
    if "qk_rope_head_dim" in names:
        sizes |= {name: size for name, size in _LATENT.items() if name in names}
    if names & {"layer_types", "layers_block_type", "mlp_layer_types", "hybrid_layer_pattern"}:
        sizes |= dict.fromkeys(names & {"num_hidden_layers"}, PATTERN_LAYERS)
    return copy.deepcopy({**sizes, **parts, **special})


def _part(kind: type, special: Mapping[str, Any]) -> dict[str, Any]:
    if kind is AutoConfig:  # which family's it is, stands in it
        kind = CONFIG_MAPPING[special["model_type"]]
    return {**_fields(kind, special), "model_type": kind.model_type}

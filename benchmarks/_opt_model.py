"""Models of OPT's architecture: facebook/opt-350m's own shape, and one that two cores train."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

OPT_350M = Path(__file__).with_name("three_phases") / "opt-350m"
"""The sizes of facebook/opt-350m as its config.json on the Hugging Face hub has them: embeddings half as wide as the
model, and each layer's norm behind it."""

TOKENIZER = Path(__file__).parents[1] / "examples/tiny-llama"
SEED = 42
_SCALED = {
    "hidden_size": 512, "word_embed_proj_dim": 256, "ffn_dim": 2048, "num_attention_heads": 8, "num_hidden_layers": 8,
    "max_position_embeddings": 512,
}  # fmt: skip


def write_scaled_model(folder: Path) -> Path:
    """Writes facebook/opt-350m scaled down, its proportions kept, with random weights and the examples' tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, OPTConfig

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    own = json.loads((OPT_350M / "config.json").read_text("utf-8"))
    vocabulary = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(SEED)
    config = OPTConfig(**{**own, **_SCALED, **vocabulary})
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    for path in TOKENIZER.glob("tokenizer*"):
        shutil.copy(path, folder)
    return folder

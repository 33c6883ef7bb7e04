"""Model folders as tests need them: config.json and safetensors files whose tensors are holes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

TINY_LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}
TINY_TENSORS = {"model.embed_tokens.weight": (100, 64), "model.norm.weight": (64,), "lm_head.weight": (100, 64)}
TINY_COUNT = 2 * 6400 + 64


def write_config(folder: Path, config: dict[str, Any] = TINY_LLAMA) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_safetensors(path: Path, tensors: dict[str, tuple[int, ...]], dtype: str = "BF16") -> None:
    """A file that is as long as its header says, without a single weight written."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end_bytes = 0
    for name, shape in tensors.items():
        start_bytes, end_bytes = end_bytes, end_bytes + 2 * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start_bytes, end_bytes]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end_bytes)


def write_shards(folder: Path, shards: list[dict[str, tuple[int, ...]]]) -> None:
    weight_map = {}
    for number, tensors in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(folder / name, tensors)
        weight_map.update(dict.fromkeys(tensors, name))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))

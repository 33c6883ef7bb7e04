"""What is loaded, and what is measured of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

RANKS = 2
DTYPE = "bfloat16"  # of the training
STAGES = (3, 2)
FILES = ("bfloat16", "float16")
STREAMED, PLAIN = "autofit", "from_pretrained"
WAYS = (STREAMED, PLAIN)


class Case(NamedTuple):
    zero_stage: int
    file_dtype: str
    way: str


@dataclass(frozen=True)
class Loaded:
    """Of one rank, above what it held when it began; `anonymous_bytes` without the model itself where that lies on the
    device in truth."""

    wall_s: float
    cpu_s: float
    anonymous_bytes: int
    mapped_bytes: int
    collective_count: int


def write_models(folder: Path, layer_count: int) -> int:
    """Writes one Llama of random weights in every dtype of FILES, in shards; returns the number of its parameters."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        hidden_size=2048,
        intermediate_size=5504,
        num_hidden_layers=layer_count,
        num_attention_heads=16,
        vocab_size=32000,
    )
    torch.manual_seed(0)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.to_empty(device="cpu")
    for parameter in model.parameters():
        parameter.data.uniform_(-0.02, 0.02)
    for name in FILES:
        model.to(getattr(torch, name)).save_pretrained(folder / name, max_shard_size="500MB")
    return int(model.num_parameters())

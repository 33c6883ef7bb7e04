"""The sub-groups that are expected of a model are those that DeepSpeed makes of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3
from transformers import AutoConfig, AutoModelForCausalLM, Trainer

from autofit.planning.optimizer_split import split_by_layers
from autofit.planning.zero_sizes import zero_sizes
from autofit.worker.model.parameter_groups import parameter_groups

_LLAMA = {
    "hidden_size": 512, "intermediate_size": 1376, "num_hidden_layers": 12, "num_attention_heads": 8,
    "num_key_value_heads": 2,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "a large vocabulary": ("llama", {**_LLAMA, "vocab_size": 64000}),
    "a small vocabulary": ("llama", {**_LLAMA, "vocab_size": 4000}),
    "tied embeddings": ("qwen2", {**_LLAMA, "vocab_size": 32000, "tie_word_embeddings": True}),
    "experts": ("mixtral", {**_LLAMA, "vocab_size": 32000, "num_local_experts": 4}),
    "biases and positions": ("gpt2", {"n_embd": 512, "n_layer": 12, "n_head": 8, "vocab_size": 50257}),
    "positions of their own": ("opt", {
        "hidden_size": 512, "ffn_dim": 2048, "num_hidden_layers": 12, "num_attention_heads": 8, "vocab_size": 50272,
        "word_embed_proj_dim": 512,
    }),
    "one head for all keys": ("falcon", {
        "hidden_size": 512, "num_hidden_layers": 12, "num_attention_heads": 8, "vocab_size": 65024, "multi_query": True,
    }),
}  # fmt: skip


def _partition(elements: int, ranks: int) -> int:
    return -(-elements // ranks)


def made_by_deepspeed(model: torch.nn.Module, ranks: int, size: int) -> list[int]:
    """The elements of a rank in each sub-group, of the parameter groups that transformers' Trainer makes."""
    decayed = set(Trainer.get_decay_parameter_names(None, model))
    counts = []
    for is_decayed in (True, False):
        group = [
            SimpleNamespace(partition_numel=partial(_partition, parameter.numel(), ranks))
            for name, parameter in model.named_parameters()
            if (name in decayed) is is_decayed
        ]
        made = DeepSpeedZeroOptimizer_Stage3._create_fp16_sub_groups(SimpleNamespace(sub_group_size=size), group)
        counts += [sum(one.partition_numel() for one in sub_group) for sub_group in made]
    return counts


@pytest.mark.parametrize("ranks", [2, 8])
@pytest.mark.parametrize("family", FAMILIES)
def test_they_are_as_many_and_as_large(family: str, ranks: int) -> None:
    kind, values = FAMILIES[family]
    config = AutoConfig.for_model(kind, **values)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    hidden_size, layer_count = config.hidden_size, config.num_hidden_layers
    threshold = zero_sizes(hidden_size).persistence_threshold
    split = split_by_layers(parameter_groups(model, {}), layer_count, ranks, threshold)
    made = made_by_deepspeed(model, ranks, split.sub_group_size)
    assert sum(made) == sum(split.counts)
    assert (
        abs(len(made) - len(split.counts)) <= 1
    )  # where a layer's tensors that are left over lie hangs on their order
    for device_groups in range(1, len(split.counts) - 1):
        told = replace(split, device_groups=device_groups)
        kept = sum(made[: int((1 - told.ratio) * len(made))])
        assert abs(kept - told.device_count) < 1.1 * split.sub_group_size
        if len(made) == len(split.counts):
            assert abs(kept - told.device_count) < split.sub_group_size / 2
        assert kept < told.device_count + split.sub_group_size / 2

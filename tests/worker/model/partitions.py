"""A model loaded under ZeRO-3 by one rank after another in this process, and put together again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deepspeed
import deepspeed.comm.comm
import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed import fake_pg
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.integrations import HfDeepSpeedConfig
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from autofit.worker.model.streaming import streamed_partitions

RANKS = 3
_COLLECTIVES = (
    "broadcast", "all_gather", "all_gather_into_tensor", "all_reduce", "reduce_scatter_tensor", "barrier",
    "broadcast_object_list", "all_gather_object", "scatter", "send",
)  # fmt: skip


@dataclass(frozen=True)
class Whole:
    """What all ranks hold, put together."""

    parameters: dict[str, torch.Tensor]
    buffers: dict[str, torch.Tensor]
    conversions: list[str]
    collectives: list[str]


@contextmanager
def rank_under_zero_3(index: int, dtype: torch.dtype = torch.bfloat16, **zero: Any) -> Iterator[list[str]]:
    """Makes this process that rank of RANKS under ZeRO-3, whom nobody answers; yields the names of the collectives that
    it calls."""
    called, linear = list[str](), torch.nn.functional.linear
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("LOCAL_RANK", "0"), ("RANK", str(index)), ("WORLD_SIZE", str(RANKS))):
            patch.setenv(name, value)
        for name, value in (("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1")):
            patch.setenv(name, value)  # asked for, and not used
        patch.setattr(deepspeed.comm.comm, "cdb", None)
        patch.setattr(
            sys.modules["deepspeed.comm.torch"], "build_shm_op", lambda: None
        )  # it would leave files in /dev/shm
        dist.init_process_group("fake", rank=index, world_size=RANKS, store=fake_pg.FakeStore())
        try:
            deepspeed.init_distributed("gloo", verbose=False)
            known = HfDeepSpeedConfig(_config(dtype, zero))
            for name in _COLLECTIVES:
                patch.setattr(dist, name, _noted(getattr(dist, name), name, called))
            yield called
            del known
        finally:
            unset_hf_deepspeed_config()
            torch.nn.functional.linear = linear  # DeepSpeed leaves its own
            dist.destroy_process_group()


def load_in_parts(folder: Path, dtype: torch.dtype = torch.bfloat16) -> Whole:
    """Loads the model as rank 0, 1 and so on, and puts the partitions together."""
    parts: list[dict[str, tuple[torch.Size, torch.Tensor]]] = []
    collectives: list[str] = []
    for index in range(RANKS):
        with rank_under_zero_3(index, dtype) as called:
            with streamed_partitions():
                model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
            named = dict(model.named_parameters(remove_duplicate=False))
            parts.append({name: (one.ds_shape, one.ds_tensor) for name, one in named.items()})
            collectives += called
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    whole = {name: _joined([part[name] for part in parts]) for name in parts[0]}
    return Whole(whole, buffers, conversions_of(model), collectives)


def check_same(whole: Whole, model: PreTrainedModel) -> None:
    """Checks that this is what `from_pretrained` alone makes of the same files: values, names when it is saved again,
    and without a word to other ranks. ZeRO-3 keeps all parameters in the dtype of the training."""
    expected = dict(model.named_parameters(remove_duplicate=False))
    assert whole.parameters.keys() == expected.keys()
    assert [name for name, one in whole.parameters.items() if not _are_equal(one, expected[name])] == []
    expected = dict(model.named_buffers())
    assert [name for name, one in expected.items() if not _are_equal(whole.buffers[name], one)] == []
    assert whole.conversions == conversions_of(model)
    assert whole.collectives == []


def conversions_of(model: PreTrainedModel) -> list[str]:
    return [str(one) for one in model._weight_conversions or []]


def _config(dtype: torch.dtype, zero: dict[str, Any]) -> dict[str, Any]:
    return {
        "train_batch_size": RANKS,
        "train_micro_batch_size_per_gpu": 1,
        "bf16": {"enabled": dtype is torch.bfloat16},
        "zero_optimization": {"stage": 3, **zero},
    }


def _noted(collective: Any, name: str, called: list[str]) -> Any:
    def call(*arguments: Any, **options: Any) -> Any:
        called.append(name)
        return collective(*arguments, **options)

    return call


def _joined(parts: list[tuple[torch.Size, torch.Tensor]]) -> torch.Tensor:
    shape, _ = parts[0]
    return torch.cat([partition for _, partition in parts])[: shape.numel()].view(shape)


def _are_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other.to(one.dtype))

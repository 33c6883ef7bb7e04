"""A checkpoint of a training, as its own files tell of it, and what the names of DeepSpeed's files say."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from .knobs.dtype import Dtype
from .knobs.method import Method
from .knobs.optimizer import Optimizer
from .request import Lora


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint's own files tell of it; None for what they do not tell."""

    path: str
    step: int
    rank_count: int
    zero_stage: int | None
    dtype: Dtype | None
    lora: Lora | None  # None: all parameters were trained
    sequence_length: int | None = None  # tokens
    global_batch: int | None = None
    seed: int | None = None
    learning_rate: float | None = None
    optimizer: Optimizer | None = None  # AdamW, too, of LOMO and AdaLomo, for which its trainer has no word

    @property
    def method(self) -> Method:
        return Method.FULL if self.lora is None else Method.LORA


_STAGE_3 = re.compile(r"zero_pp_rank_\d+_mp_rank_\d+_model_states\.pt")
_MODEL = re.compile(r"mp_rank_\d+_model_states\.pt")
_OPTIMIZER = "optimizer.pt"
_RANDOM = re.compile(r"rng_state(?:_(\d+))?\.pth")
_SHARD = re.compile(r"(?:bf16_)?zero_pp_rank_(\d+)_mp_rank_\d+_optim_states\.pt")


def ranks_in(names: Collection[str]) -> frozenset[int]:
    """The ranks whose share of the optimizer is there; none where nothing is divided."""
    return frozenset(int(match[1]) for match in map(_SHARD.fullmatch, names) if match)


def plain_ranks_in(names: Collection[str]) -> frozenset[int]:
    """The ranks of a checkpoint that transformers' trainer wrote without an engine of DeepSpeed's, by the random states
    that each of them leaves beside the whole optimizer; none in another."""
    return random_ranks_in(names) if _OPTIMIZER in names else frozenset()


def random_ranks_in(names: Collection[str]) -> frozenset[int]:
    """The ranks whose random states are there, which transformers' trainer saves with an engine and without."""
    return frozenset(int(match[1] or 0) for match in map(_RANDOM.fullmatch, names) if match)


def stages_in(names: Collection[str], *, is_universal: bool = False) -> tuple[int, ...]:
    """The ZeRO stages that wrote such files, and can load them; empty for files of another kind.

    Stage 3 alone divides the parameters, so that each rank has a file of them; a universal checkpoint has no shares.
    """
    if any(map(_STAGE_3.fullmatch, names)):
        return (3,)
    if any(map(_MODEL.fullmatch, names)):
        return (1, 2) if is_universal or ranks_in(names) else (0,)
    return ()

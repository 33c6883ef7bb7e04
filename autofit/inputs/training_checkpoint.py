"""The files of a checkpoint that transformers wrote, with DeepSpeed or without: whether all are there, and what they
tell."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autofit.domain.checkpoint import Checkpoint, plain_ranks_in, ranks_in, stages_in
from autofit.domain.errors import UsageError
from autofit.domain.knobs.dtype import MIXED, Dtype, switched_on
from autofit.domain.knobs.optimizer import TRAINER_NAMES, Optimizer
from autofit.domain.request import Lora
from autofit.inputs.checkpoint_files import LATEST, STATE, damage
from autofit.inputs.json_text import read_object
from autofit.inputs.torch_file import Scalar, named_scalars


def read_checkpoint(name: str) -> Checkpoint:
    """Reads what the files of a checkpoint say; UsageError when it is not whole. Nothing of it is unpickled."""
    folder = Path(name).expanduser()
    state = _state(folder, name)
    told = named_scalars(folder / "training_args.bin")
    parts = _parts(folder, name)
    if (wrong := damage(folder)) is not None:
        raise UsageError(f"--resume {name} is no whole checkpoint: {wrong}. Name the one before it.")
    rank_count = len(parts.ranks)
    return Checkpoint(
        path=str(folder.resolve()),
        step=int(state.get("global_step", 0)),
        rank_count=rank_count,
        zero_stage=_number(told, "zero_stage") if parts.zero_stage is None else parts.zero_stage,
        dtype=_dtype(told),
        lora=_lora(folder, name),
        sequence_length=_number(told, "max_length"),
        global_batch=_global_batch(rank_count, told),
        seed=_number(told, "seed"),
        learning_rate=rate if isinstance(rate := told.get("learning_rate"), float) else None,
        optimizer=_optimizer(told),
    )


def _state(folder: Path, name: str) -> dict[str, Any]:
    """What transformers' trainer says of itself in a checkpoint: the file that is written last."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise UsageError(f"--resume {name} is no whole checkpoint: it has no readable {STATE}.") from None
    if not isinstance(state, dict) or not isinstance(state.get("global_step", 0), int):
        raise UsageError(f"--resume {name} is no whole checkpoint: its {STATE} is damaged.")
    return state


@dataclass(frozen=True)
class _Parts:
    """What the names of the files tell: the ranks that have left theirs, and the ZeRO stage; None for 1 or 2."""

    ranks: frozenset[int]
    zero_stage: int | None


def _parts(folder: Path, name: str) -> _Parts:
    found = _found_parts(folder, name)
    if found.ranks and found.ranks == set(range(len(found.ranks))):
        return found
    what = "parts of some ranks are missing there" if found.ranks else "no state of an optimizer is there"
    raise UsageError(
        f"--resume {name} cannot be resumed from: {what}. To start from its weights, give it as --model instead."
    )


def _found_parts(folder: Path, name: str) -> _Parts:
    """The parts that DeepSpeed wrote, into the folder that `latest` names, or those of a training without it."""
    latest = folder / LATEST
    if not latest.is_file():
        return _Parts(plain_ranks_in([path.name for path in folder.glob("*")]), 0)
    try:
        names = [path.name for path in (folder / latest.read_text(encoding="utf-8").strip()).glob("*")]
    except (OSError, ValueError):  # not text, or no name of a folder
        raise UsageError(f"--resume {name} is no whole checkpoint: its file {LATEST} is damaged.") from None
    return _Parts(ranks_in(names), 3 if stages_in(names) == (3,) else None)


def _dtype(told: dict[str, Scalar]) -> Dtype | None:
    if not all(isinstance(told.get(dtype.value), bool) for dtype in MIXED):
        return None
    return switched_on(told) or Dtype.FP32


def _optimizer(told: dict[str, Scalar]) -> Optimizer | None:
    name = told.get("optim")
    known = {theirs: optimizer for optimizer, theirs in TRAINER_NAMES.items()}
    return known.get(name, Optimizer.ADAMW) if isinstance(name, str) else None


def _lora(folder: Path, name: str) -> Lora | None:
    path = folder / "adapter_config.json"
    if not path.is_file():
        return None
    damaged = f"--resume {name} is no whole checkpoint: its adapter_config.json"
    config = read_object(path, damaged, "resume from another one")
    targets, rank, alpha = config.get("target_modules") or (), config.get("r"), config.get("lora_alpha")
    names = (targets,) if isinstance(targets, str) else targets
    if not isinstance(names, (list, tuple)) or not all(isinstance(one, str) for one in names):
        raise UsageError(f"{damaged} names no modules: resume from another one.")
    if not isinstance(rank, int) or not isinstance(alpha, (int, float)) or not math.isfinite(alpha):
        raise UsageError(f"{damaged} has no r and lora_alpha: resume from another one.")
    return Lora(rank, int(alpha), tuple(sorted(names)))


def _global_batch(rank_count: int, told: dict[str, Scalar]) -> int | None:
    micro_batch = _number(told, "per_device_train_batch_size")
    accumulation = _number(told, "gradient_accumulation_steps")
    if micro_batch is None or accumulation is None:
        return None
    return micro_batch * accumulation * rank_count


def _number(told: dict[str, Scalar], name: str) -> int | None:
    value = told.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None

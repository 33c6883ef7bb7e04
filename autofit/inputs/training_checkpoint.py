"""The files of a checkpoint that transformers and DeepSpeed wrote: whether all are there, and what they tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autofit.domain.checkpoint import Checkpoint, ranks_in, stages_in
from autofit.domain.errors import UsageError
from autofit.domain.knobs.dtype import MIXED, Dtype, switched_on
from autofit.domain.request import Lora
from autofit.inputs.torch_file import Scalar, named_scalars


def read_checkpoint(name: str) -> Checkpoint:
    """Reads what the files of a checkpoint say; UsageError when it is not whole, or was not written by a training under
    DeepSpeed. Nothing of it is unpickled."""
    folder = Path(name).expanduser()
    state = _state(folder, name)
    names = _part_names(folder, name)
    rank_count = len(ranks_in(names))
    told = named_scalars(folder / "training_args.bin")
    return Checkpoint(
        path=str(folder.resolve()),
        step=int(state.get("global_step", 0)),
        rank_count=rank_count,
        zero_stage=_stage(names, told),
        dtype=_dtype(told),
        lora=_lora(folder),
        sequence_length=_number(told, "max_length"),
        global_batch=_global_batch(rank_count, told),
        seed=_number(told, "seed"),
        learning_rate=rate if isinstance(rate := told.get("learning_rate"), float) else None,
    )


def _state(folder: Path, name: str) -> dict[str, Any]:
    """What transformers' trainer says of itself in a checkpoint: the file that is written last."""
    try:
        state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UsageError(f"--resume {name} is no whole checkpoint: it has no readable trainer_state.json.") from None
    return state if isinstance(state, dict) else {}


def _part_names(folder: Path, name: str) -> list[str]:
    """The names of DeepSpeed's files."""
    latest = folder / "latest"
    parts = folder / latest.read_text().strip() if latest.is_file() else folder
    names = [path.name for path in parts.glob("*")]
    ranks = ranks_in(names)
    if latest.is_file() and ranks and ranks == set(range(len(ranks))):
        return names
    what = "parts of some ranks are missing there" if ranks else "DeepSpeed wrote nothing there"
    raise UsageError(
        f"--resume {name} cannot be resumed from: {what}. To start from its weights, give it as --model instead."
    )


def _stage(names: list[str], told: dict[str, Scalar]) -> int | None:
    """The ZeRO stage that wrote it: the names do not tell stages 1 and 2 apart."""
    return 3 if stages_in(names) == (3,) else _number(told, "zero_stage")


def _dtype(told: dict[str, Scalar]) -> Dtype | None:
    if not all(isinstance(told.get(dtype.value), bool) for dtype in MIXED):
        return None
    return switched_on(told) or Dtype.FP32


def _lora(folder: Path) -> Lora | None:
    path = folder / "adapter_config.json"
    if not path.is_file():
        return None
    config = json.loads(path.read_text(encoding="utf-8"))
    targets = config.get("target_modules") or ()
    names = (targets,) if isinstance(targets, str) else tuple(sorted(targets))
    return Lora(int(config["r"]), int(config["lora_alpha"]), names)


def _global_batch(rank_count: int, told: dict[str, Scalar]) -> int | None:
    micro_batch = _number(told, "per_device_train_batch_size")
    accumulation = _number(told, "gradient_accumulation_steps")
    if micro_batch is None or accumulation is None:
        return None
    return micro_batch * accumulation * rank_count


def _number(told: dict[str, Scalar], name: str) -> int | None:
    value = told.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None

"""What a checkpoint leaves open: what must be as it was in the training that wrote it, and what the search keeps to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from autofit.domain.checkpoint import Checkpoint
from autofit.domain.knobs.allowance import LAST_RESORTS
from autofit.domain.knobs.dtype import DTYPE
from autofit.domain.knobs.method import METHOD, Method
from autofit.domain.knobs.optimizer import OPTIMIZER, Optimizer
from autofit.domain.knobs.zero_stage import ZERO_STAGE
from autofit.domain.request import Lora, Request
from autofit.domain.shell import path_word
from autofit.domain.strategy import Rung

_LIKE_EACH_OTHER = ({0}, {1, 2}, {3})  # what one of these stages wrote is loaded by the others beside it


def conflicts(request: Request, checkpoint: Checkpoint) -> tuple[str, ...]:
    """What conflicts: one `--seed (42, now 7)` for each flag that asks for what the checkpoint cannot go on with.

    Another dtype or method, a stage of another kind and, of some checkpoints, another number of ranks cannot be loaded;
    the seed, the batch and the length decide which rows come next; the learning rate comes from the checkpoint,
    whatever is asked for.
    """
    return tuple(f"{flag} ({there}, now {asked})" for flag, there, asked in _differing(request, checkpoint))


def _differing(request: Request, checkpoint: Checkpoint) -> Iterator[tuple[str, Any, Any]]:
    pins, training = request.pins, request.training
    dtype, method = pins.of(DTYPE), pins.of(METHOD)
    if not _can_load(pins.of(ZERO_STAGE), checkpoint.zero_stage):
        yield "--zero-stage", "unknown" if checkpoint.zero_stage is None else checkpoint.zero_stage, pins.of(ZERO_STAGE)
    is_kept = not _loads_on_any_ranks(checkpoint, pins.of(OPTIMIZER))
    pairs: list[tuple[str, Any, Any]] = [
        ("--ranks", checkpoint.rank_count if is_kept else None, request.ranks),
        ("--dtype", checkpoint.dtype and checkpoint.dtype.value, dtype and dtype.value),
        ("--method", checkpoint.method.value, method and method.value),
        ("--optimizer", *_optimizers(pins.of(OPTIMIZER), checkpoint.optimizer)),
        ("--seq", checkpoint.sequence_length, request.sequence_length),
        ("--batch-size", checkpoint.global_batch, request.global_batch),
        ("--seed", checkpoint.seed, training.seed),
        ("--learning-rate", checkpoint.learning_rate, training.learning_rate),
    ]
    if checkpoint.lora is not None and method is not Method.FULL:
        pairs += _lora_pairs(checkpoint.lora, request.lora)
    yield from (pair for pair in pairs if None not in pair and pair[1] != pair[2])


def _loads_on_any_ranks(checkpoint: Checkpoint, asked: Optimizer | None) -> bool:
    """Whether another number of ranks can go on from it: plain data parallel saves everything whole, and what ZeRO 1
    and 2 have divided of AdamW is made universal (`ds_to_universal` of DeepSpeed 0.19.8 knows its two moments only)."""
    if checkpoint.zero_stage == 0:
        return True
    is_adamw = checkpoint.optimizer in (None, Optimizer.ADAMW) and asked in (None, Optimizer.ADAMW)
    return checkpoint.zero_stage in (None, 1, 2) and is_adamw


def _can_load(asked: int | None, there: int | None) -> bool:
    """Whether a stage that is asked for loads the one that is there; one that is not known is one of ZeRO's, whose
    files' names tell it from plain data parallel."""
    if there is None:
        return asked != 0
    return asked is None or any({asked, there} <= alike for alike in _LIKE_EACH_OTHER)


def _optimizers(asked: Optimizer | None, there: Optimizer | None) -> tuple[str | None, str | None]:
    """The words of both; None where nothing tells, as a checkpoint does of an update in the backward pass."""
    if asked is None or there is None or (there is Optimizer.ADAMW and asked.is_fused):
        return None, None
    return there.value, asked.value


def _kept_optimizer(request: Request, there: Optimizer | None) -> Optimizer | None:
    """The optimizer that goes on; None where it may be one that a checkpoint has no word for and the request allows."""
    allowed = {LAST_RESORTS, *(one.value for one in Optimizer if one.is_fused)}.intersection(request.allow)
    return None if there is Optimizer.ADAMW and allowed else there


def _lora_pairs(there: Lora, asked: Lora) -> list[tuple[str, Any, Any]]:
    pairs: list[tuple[str, Any, Any]] = [("--lora-r", there.r, asked.r), ("--lora-alpha", there.alpha, asked.alpha)]
    if asked.names_modules:
        pairs.append(("--lora-target-modules", _modules(there), _modules(asked)))
    return pairs


def _modules(lora: Lora) -> str:
    return ",".join(sorted(lora.target_modules))


def kept_lora(asked: Lora, there: Lora | None) -> Lora:
    """The adapters that a training goes on with: those that are there, unless the request names modules itself."""
    return asked if there is None or asked.names_modules else there


def can_resume(rung: Rung, checkpoint: Checkpoint) -> bool:
    """Whether a training by `rung` can go on from it."""
    is_same_dtype = checkpoint.dtype in (None, rung.dtype)
    there, ours = _optimizers(rung.optimizer, checkpoint.optimizer)
    return (
        there == ours
        and rung.method is checkpoint.method
        and is_same_dtype
        and _can_load(rung.zero_stage, checkpoint.zero_stage)
    )


def narrow_to_checkpoint(request: Request, checkpoint: Checkpoint) -> Request:
    """The request within what the checkpoint can go on with: its stage, dtype, method and optimizer are pinned, its
    ranks unless others are asked for, and its adapters stay where they are."""
    pins = request.pins.but(
        method=checkpoint.method,
        zero_stage=_stage(request.pins.of(ZERO_STAGE), checkpoint.zero_stage),
        dtype=checkpoint.dtype or request.pins.of(DTYPE),
        optimizer=request.pins.of(OPTIMIZER) or _kept_optimizer(request, checkpoint.optimizer),
    )
    ranks = request.ranks or checkpoint.rank_count
    return replace(request, ranks=ranks, pins=pins, lora=kept_lora(request.lora, checkpoint.lora))


def _stage(asked: int | None, there: int | None) -> int:
    """The stage that goes on from a checkpoint: of one that is not known ZeRO-2, which loads 1 and 2; the files' names
    tell 3."""
    return next((stage for stage in (asked, there) if stage is not None), 2)


def checkpoint_text(request: Request, checkpoint: Checkpoint) -> str:
    """What the screen says of it; `request` is the one that was narrowed."""
    parts = ["all parameters" if checkpoint.lora is None else "LoRA"]
    parts += [] if checkpoint.zero_stage is None else [ZERO_STAGE.of(checkpoint.zero_stage).text]
    parts += [] if checkpoint.dtype is None else [checkpoint.dtype.value]
    now = request.ranks or checkpoint.rank_count
    parts.append(_ranks(checkpoint.rank_count) + ("" if now == checkpoint.rank_count else f", now {now}"))
    rate = "" if checkpoint.learning_rate is None else f"; its learning rate, {checkpoint.learning_rate:g}, goes on"
    stage = request.pins.of(ZERO_STAGE)
    other = "" if stage in (None, checkpoint.zero_stage) else f", and {ZERO_STAGE.of(stage).text} loads it"
    return f"{checkpoint.path} is of {', '.join(parts)}: the search keeps to that{other}{rate}"


def _ranks(count: int) -> str:
    return f"{count} rank{'' if count == 1 else 's'}"


def weights_text(request: Request, checkpoint: Checkpoint) -> str:
    """Says how to start from its weights instead."""
    if checkpoint.lora is None:
        return f"--model {path_word(checkpoint.path)} without --resume"
    dtype = checkpoint.dtype.value if checkpoint.dtype is not None else "fp32"
    base, adapter = path_word(request.model), path_word(checkpoint.path)
    merge = f"python -m autofit.worker.merge --base {base} --adapter {adapter} --dtype {dtype} --out MERGED"
    return f"{merge}, then --model MERGED without --resume"

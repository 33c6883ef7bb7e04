"""The lean optimizers on a real device: bitsandbytes' kernels for CUDA, and torchao's update as Triton compiles it."""

from __future__ import annotations

import time
from typing import Any

import torch
from _check import Say

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.optimizer import BF16_MASTERS, PACKAGES, TRAINER_NAMES, Optimizer
from autofit.domain.units import format_bytes
from autofit.hardware.requirements import installed_here
from autofit.planning.optimizer_states import moments_bytes, step_bytes

_COUNTS = {DeviceKind.CUDA: 2**26 + 37, DeviceKind.CPU: 2**18 + 37}  # no block divides them, as most shares of ZeRO
_STEPS = 5
_UNSPLIT_BYTES = 2 * 2**20  # the scales of both moments lie in blocks of which torch leaves up to 1 MiB unused
_PLANNED = "planning/optimizer_states.py plans another amount: memory of this optimizer is predicted wrongly"


def lean_optimizers(kind: DeviceKind, say: Say) -> None:
    for optimizer in PACKAGES:
        if PACKAGES[optimizer] not in installed_here():
            say.tell(f"{optimizer.value}: {PACKAGES[optimizer]} is not installed")
        else:
            _check(optimizer, kind, say)


def _made(optimizer: Optimizer, weight: torch.nn.Parameter) -> torch.optim.Optimizer:
    """The optimizer as a training makes it."""
    from transformers.trainer_optimizer import OptimizerContext, _get_bitsandbytes_optimizer, _get_torchao_optimizer
    from trl import SFTConfig

    from autofit.worker.training.optimizers import on_flat_shares

    arguments = SFTConfig(optim=TRAINER_NAMES[optimizer], bf16=False)
    make = _get_torchao_optimizer if optimizer in BF16_MASTERS else _get_bitsandbytes_optimizer
    rate, adam = {"lr": 1e-3}, {"betas": (0.9, 0.999), "eps": 1e-8}
    found, keywords = make(OptimizerContext(arguments, None, rate, adam, {}))
    made: torch.optim.Optimizer = on_flat_shares(found, TRAINER_NAMES[optimizer])([weight], **keywords)
    return made


def _check(optimizer: Optimizer, kind: DeviceKind, say: Say) -> None:
    dtype = torch.bfloat16 if optimizer in BF16_MASTERS else torch.float32
    count = _COUNTS[kind]
    weight = torch.nn.Parameter(torch.full((count,), 0.03, device=kind.value, dtype=dtype))
    weight.grad = torch.ones_like(weight)
    made = _made(optimizer, weight)
    began_bytes = _held_bytes(kind)
    first_s = _timed_s(made, kind)
    kept_bytes = _held_bytes(kind) - began_bytes
    if kind is DeviceKind.CUDA:
        torch.cuda.reset_peak_memory_stats()
    took_s = min(_timed_s(made, kind) for _ in range(_STEPS))
    made_bytes = torch.cuda.max_memory_allocated() - began_bytes - kept_bytes if kind is DeviceKind.CUDA else 0
    name, planned_bytes = optimizer.value, moments_bytes(optimizer, count)
    each_ns = 1e9 * took_s / count
    text = f"{name}: the first step {first_s:.1f} s, others {1e3 * took_s:.2f} ms for {count:,} elements"
    say.tell(text, first_s=first_s, took_s=took_s, each_ns=each_ns)
    _say_moved(optimizer, weight, say)
    if kind is DeviceKind.CUDA:
        is_right = abs(kept_bytes - planned_bytes) < 0.01 * planned_bytes + _UNSPLIT_BYTES
        text = f"{name}: keeps {format_bytes(kept_bytes)}, {format_bytes(planned_bytes)} are planned"
        say(is_right, text, _PLANNED, kept_bytes=kept_bytes)
        most_bytes = step_bytes(optimizer, kind, count) + 0.1 * count
        text = f"{name}: a step makes {format_bytes(made_bytes)} for a moment"
        say(made_bytes <= most_bytes, text, _PLANNED, made_bytes=made_bytes)


def _say_moved(optimizer: Optimizer, weight: torch.Tensor, say: Say) -> None:
    """With the same gradient each time every kind of Adam and Lion moves a weight by the learning rate a step."""
    rest, whole = float(0.03 - weight.detach()[-37:].float().mean()), float(0.03 - weight.detach().float().mean())
    expected = 1e-3 * (1 + _STEPS)
    is_right = all(abs(moved / expected - 1) < 0.15 for moved in (rest, whole))
    text = f"{optimizer.value}: weights moved by {whole:.5f}, the last ones by {rest:.5f}, expected {expected:.5f}"
    say(is_right, text, "this optimizer learns something else on this device: do not use it")


def _timed_s(optimizer: Any, kind: DeviceKind) -> float:
    began_at_s = time.perf_counter()
    optimizer.step()
    if kind is DeviceKind.CUDA:
        torch.cuda.synchronize()
    return time.perf_counter() - began_at_s


def _held_bytes(kind: DeviceKind) -> int:
    return torch.cuda.memory_allocated() if kind is DeviceKind.CUDA else 0

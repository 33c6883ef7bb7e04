"""The process groups of a probe: NCCL's, and the one in which a rehearsal's neighbours are played."""

from __future__ import annotations

import datetime
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from _check import Say

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.request import Request
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.units import format_bytes
from autofit.probing.protocol import Job
from autofit.worker.rank.memory_meter import meter
from autofit.worker.rank.process_group import join_group

_LEAST_TIMEOUT = datetime.timedelta(minutes=30)
_RANKS = 64
_GATHERED_BYTES = 256 * 2**20
_SLOWEST = 4.0  # times a plain copy of as many bytes


def process_group(kind: DeviceKind, say: Say) -> None:
    memory = meter(kind.value)
    alone_bytes = memory.base_bytes
    began_at_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        join_group(_job(kind, 1), Path(folder, "store"))
        joined_s = time.monotonic() - began_at_s
        total = torch.ones(4, device=kind.value)
        dist.all_reduce(total)
        say(
            total.tolist() == [1.0] * 4,
            f"{dist.get_backend()} joined in {joined_s:.1f} s",
            "the sum is wrong: report it",
        )
        for name, group in (("the group", dist.group.WORLD), ("a later group", dist.new_group([0]))):
            limit = group._get_backend(torch.device(kind.value)).options._timeout
            advice = "a rank that tokenizes or saves for longer ends the training"
            say(limit >= _LEAST_TIMEOUT, f"{name} waits for {limit}", advice, timeout_s=limit.total_seconds())
    memory.mark()
    shared_bytes = memory.base_bytes - alone_bytes
    say.tell(f"the communicator of one rank takes {format_bytes(shared_bytes)}", communicator_bytes=shared_bytes)


def rehearsal_group(kind: DeviceKind, say: Say) -> None:
    """One of 64 ranks: what it gathers, how long that takes, and that a gradient goes through."""
    meter(kind.value)
    join_group(replace(_job(kind, _RANKS), is_rehearsal=True))
    part = torch.ones(_GATHERED_BYTES // 4 // _RANKS, device=kind.value)
    whole = torch.zeros(part.numel() * _RANKS, device=kind.value)
    gathered_s = _fastest_s(lambda: dist.all_gather_into_tensor(whole, part))
    say(bool((whole == 1).all()), f"{_RANKS} parts are gathered", "a rehearsal computes with wrong weights")
    other = torch.ones_like(whole)
    copied_s = _fastest_s(lambda: whole.copy_(other))
    ratio = gathered_s / copied_s
    text = f"gathering {format_bytes(_GATHERED_BYTES)} takes {1e3 * gathered_s:.2f} ms, {ratio:.1f} times a copy"
    say(ratio < _SLOWEST, text, "steps of rehearsals under ZeRO-3 are measured too long", gathered_s=gathered_s)
    learned = torch.nn.Parameter(torch.ones(2, device=kind.value))
    dist.all_gather_into_tensor(torch.empty(2 * _RANKS, device=kind.value), learned)
    say.tell("a tensor with a gradient is gathered")
    objects: list[object] = [None] * _RANKS
    dist.all_gather_object(objects, {"rows": 2})
    say(objects[-1] == {"rows": 2}, "objects are gathered", "a rehearsal cannot count tokens")
    dist.barrier()


def _job(kind: DeviceKind, rank_count: int) -> Job:
    rung = Rung(
        method=Method.FULL,
        zero_stage=3,
        offload=Offload.NONE,
        gradient_checkpointing=GradientCheckpointing.OFF,
        attention=Attention.SDPA,
        dtype=Dtype.BF16,
    )
    return Job(Request("none", 1, global_batch=rank_count), Strategy(rung, 1, 1), "{}", kind, rank_count)


def _fastest_s(act: Callable[[], Any]) -> float:
    durations_s = []
    for _ in range(5):
        _wait()
        began_at_s = time.perf_counter()
        act()
        _wait()
        durations_s.append(time.perf_counter() - began_at_s)
    return min(durations_s)


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()

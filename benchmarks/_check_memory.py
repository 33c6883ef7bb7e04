"""The meter, the cap, what lies beside the allocator, pinned memory, and the words of a full card."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from _check import Say
from torch.nn import functional

from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Phase, Place
from autofit.domain.units import format_bytes
from autofit.probing.protocol import FailureKind, RankFailed
from autofit.worker.rank.device import DriverMemory, own_device_name
from autofit.worker.rank.failure import rank_failed
from autofit.worker.rank.memory_meter import CudaMeter, meter
from autofit.worker.rank.out_of_memory import free_device_bytes

_MB, _GB = 10**6, 10**9
_CHUNK_BYTES = 100 * _MB
_CAP_BYTES = 4 * _GB
_IMPOSSIBLE_BYTES = 10**15
_WORDS = "autofit/worker/rank/failure.py does not know these words: report them"


def forked_clean(kind: DeviceKind, say: Say) -> None:
    is_clean = not torch.cuda.is_initialized() and not torch.cuda._is_in_bad_fork()
    say(
        is_clean,
        "CUDA is as the fork found it" if is_clean else "CUDA is initialized in the fork server",
        "nothing that is imported there may touch it",
    )
    if kind is DeviceKind.CUDA:
        total = torch.ones(1000, device="cuda").sum().item()
        say(total == 1000, f"a tensor on {torch.cuda.get_device_name()}", "the GPU computes wrongly: see dmesg")


def memory_cap(kind: DeviceKind, say: Say) -> None:
    began_at_s = time.monotonic()
    memory = meter(kind.value)
    took_s = time.monotonic() - began_at_s
    base_bytes = memory.base_bytes
    fits = kind is DeviceKind.CPU or 200 * _MB < base_bytes < 900 * _MB
    advice = "the priors in planning/prior_constants.py expect 0.3 to 0.6 GB: report the card and the driver"
    say(fits, f"the runtime takes {format_bytes(base_bytes)}, {took_s:.1f} s", advice, base_bytes=base_bytes)
    cap_bytes = base_bytes + _GB if kind is DeviceKind.CPU else _CAP_BYTES
    memory.cap(cap_bytes)
    kept, failure = _fill(kind)
    expected = (cap_bytes - base_bytes) // _CHUNK_BYTES
    advice = "the cap is not where --memory-limit says"
    text = f"the cap stopped the {len(kept) + 1}th block of 100 MB, the {expected + 1}th was expected"
    say(failure is not None and abs(len(kept) - expected) <= 3, text, advice, kept=len(kept), expected=expected)
    if failure is not None:
        _say_memory(say, failure, Place.DEVICE, kind)
    peak_bytes = memory.peak_device_bytes()
    say(peak_bytes <= cap_bytes * 1.02, f"peak {format_bytes(peak_bytes)} of {format_bytes(cap_bytes)}", advice)


def _fill(kind: DeviceKind, chunk_bytes: int = _CHUNK_BYTES, most: int = 100) -> tuple[list[torch.Tensor], Any]:
    """Blocks until there is no more room, and the exception that said so."""
    kept: list[torch.Tensor] = []
    try:
        while len(kept) < most:
            kept.append(torch.ones(chunk_bytes, dtype=torch.uint8, device=kind.value))
    except Exception as error:
        return kept, error
    return kept, None


def _say_memory(say: Say, error: BaseException, place: Place, kind: DeviceKind) -> None:
    failed = _translated(error, kind)
    is_right = failed.kind is FailureKind.OUT_OF_MEMORY and failed.place is place
    say(is_right, f"{failed.kind.value} ({failed.place.value}): {failed.message[:200]}", _WORDS)


def _translated(error: BaseException, kind: DeviceKind) -> RankFailed:
    return rank_failed(
        error,
        Phase.BUILD,
        is_on_cpu=kind is DeviceKind.CPU,
        peak_bytes=None,
        free_device_bytes=free_device_bytes(),
    )


def driver_memory(kind: DeviceKind, say: Say) -> None:
    """What lies beside the allocator after the kernels of a training, against what the driver says."""
    driver = DriverMemory(own_device_name())
    before_bytes = driver.used_bytes()
    memory = CudaMeter()
    context_bytes = memory.base_bytes
    _compute()
    memory.mark()
    taken_bytes = driver.used_bytes() - before_bytes
    peak_bytes = memory.peak_device_bytes()
    kernels_bytes = memory.base_bytes - context_bytes
    text = f"the context takes {format_bytes(context_bytes)}, kernels {format_bytes(kernels_bytes)} more"
    say.tell(text, context_bytes=context_bytes, kernels_bytes=kernels_bytes)
    text = f"the meter's peak {format_bytes(peak_bytes)}, the driver sees {format_bytes(taken_bytes)}"
    say(
        peak_bytes >= taken_bytes * 0.99,
        text,
        "is another process on this GPU?",
        peak_bytes=peak_bytes,
        taken_bytes=taken_bytes,
    )


def _compute() -> None:
    """Matrix products, a norm, attention, a loss and Adam's update: what loads a training's kernels."""
    weight = torch.randn(2048, 2048, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    heads = weight.view(1, 16, 2048, 128)
    product = functional.layer_norm(weight @ weight, (2048,)).sum()
    attended = functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True).sum()
    loss = functional.cross_entropy(weight.float(), torch.zeros(2048, dtype=torch.long, device="cuda"))
    (product + attended + loss).backward()
    torch.optim.AdamW([weight], fused=True).step()
    torch.cuda.synchronize()


def free_memory(kind: DeviceKind, say: Say) -> None:
    """DeepSpeed's own question, which ZeRO-1 and 2 always ask."""
    from deepspeed.accelerator import get_accelerator

    memory = meter(kind.value)
    free_bytes = get_accelerator().available_memory()
    say(free_bytes > 0, f"DeepSpeed hears that {format_bytes(free_bytes)} are free", "see the traceback")
    memory.cap(_CAP_BYTES)
    kept = torch.ones(_GB, dtype=torch.uint8, device="cuda")
    capped_bytes = get_accelerator().available_memory()
    expected_bytes = _CAP_BYTES - memory.base_bytes - kept.numel()
    is_right = abs(capped_bytes - expected_bytes) < 50 * _MB
    text = f"under a cap of 4 GB with 1 GB held it hears {format_bytes(capped_bytes)}"
    say(is_right, text, f"{format_bytes(expected_bytes)} were expected", free_bytes=capped_bytes)


def pinned_memory(kind: DeviceKind, say: Say) -> None:
    memory = meter(kind.value)
    before_bytes = memory.peak_host_bytes()
    held = torch.ones(3 * 2**29, dtype=torch.uint8, pin_memory=True)
    grown_bytes = memory.peak_host_bytes() - before_bytes
    is_right = held.numel() * 0.95 < grown_bytes < held.numel() * 1.5
    stats = {name: size for name, size in torch.cuda.host_memory_stats().items() if name.endswith("bytes.peak")}
    text = f"{format_bytes(held.numel())} pinned count as {format_bytes(grown_bytes)}"
    say(is_right, text, "offload's host memory is measured wrongly", grown_bytes=grown_bytes, **stats)


def no_memory_left(kind: DeviceKind, say: Say) -> None:
    """The real words of a card that is full, as its libraries say them."""
    meter(kind.value)
    for place, pinned in ((Place.DEVICE, {"device": "cuda"}), (Place.HOST, {"pin_memory": True})):
        error = _raised(partial(torch.empty, _IMPOSSIBLE_BYTES, dtype=torch.uint8, **pinned))
        _say_memory(say, error or RuntimeError("a petabyte was found"), place, kind)
    kept, _ = _fill(kind, 2**30, most=1000)
    rest, _ = _fill(kind, 2**21, most=1000)
    first, second, product = kept[0].view(torch.bfloat16)[: 3 * 2**20].view(3, 1024, 1024)
    held_bytes = sum(block.numel() for block in (*kept, *rest))
    error = _raised(partial(_multiply, first, second, product))  # cuBLAS makes its handle now
    if error is None:
        say.tell(f"cuBLAS found room beside {format_bytes(held_bytes)}")
    else:
        _say_memory(say, error, Place.DEVICE, kind)


def _multiply(first: torch.Tensor, second: torch.Tensor, product: torch.Tensor) -> None:
    torch.mm(first, second, out=product)
    torch.cuda.synchronize()


def _raised(act: Callable[[], Any]) -> Exception | None:
    try:
        act()
    except Exception as error:
        return error
    return None

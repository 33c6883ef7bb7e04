"""The kernels that torch takes for attention, what a trace assumes, and DeepSpeed's optimizer for the host."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from _check import Say
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import LlamaConfig

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GRADIENT_CHECKPOINTING, GradientCheckpointing
from autofit.domain.request import Lora
from autofit.domain.trace import MicroStep, SdpaKernel
from autofit.planning.memory import sdpa
from autofit.worker.trace.micro_step_trace import trace as trace_of

_HEADS, _TOKENS = 32, 1024
_CALLS = (
    sdpa.SdpaCall(Dtype.BF16, 64, 64),
    sdpa.SdpaCall(Dtype.BF16, 64, 64, is_grouped=True),
    sdpa.SdpaCall(Dtype.BF16, 128, 128),
    sdpa.SdpaCall(Dtype.BF16, 128, 128, has_mask=True),
    sdpa.SdpaCall(Dtype.BF16, 192, 128),
    sdpa.SdpaCall(Dtype.BF16, 256, 256),
    sdpa.SdpaCall(Dtype.BF16, 80, 80),
    sdpa.SdpaCall(Dtype.FP32, 64, 64),
)
_DTYPES = {Dtype.BF16: torch.bfloat16, Dtype.FP32: torch.float32}
_BACKENDS = {
    SDPBackend.CUDNN_ATTENTION: SdpaKernel.CUDNN,
    SDPBackend.FLASH_ATTENTION: SdpaKernel.FLASH,
    SDPBackend.EFFICIENT_ATTENTION: SdpaKernel.EFFICIENT,
    SDPBackend.MATH: SdpaKernel.MATH,
}
_LAUNCHES = 1000  # fewer than a GPU's queue holds
_WIDTHS = (1000, 1008, 1000, 1016, 1008)  # rows as uneven data have them
_ADVICE = "planning/memory/sdpa.py has other rules than this torch: memory and speed of sdpa are predicted wrongly"


def attention_kernels(kind: DeviceKind, say: Say) -> None:
    capability, cudnn = torch.cuda.get_device_capability(), torch.backends.cudnn.version() or 0
    for call in _CALLS:
        assumed, taken = sdpa.sdpa_kernel(call, capability, cudnn), _taken(call)
        what = f"heads of {call.query_size} and {call.value_size}, {call.dtype.value}"
        what += ", a mask" * call.has_mask + ", grouped" * call.is_grouped
        say(taken is assumed, f"{what}: torch takes {taken.value}, {assumed.value} was assumed", _ADVICE)
    seen: set[int] = set()
    for width in _WIDTHS:
        took_s = _timed_s(width)
        word = "again" if width in seen else "for the first time"
        say.tell(f"{width} tokens {word}: {1e3 * took_s:.1f} ms", width_tokens=width, took_s=took_s)
        seen.add(width)
    for backend, kernel in _BACKENDS.items():
        if kernel is not SdpaKernel.MATH:
            _tell_memory(backend, kernel, say)


def _inputs(call: sdpa.SdpaCall, tokens: int = _TOKENS) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    few = _HEADS // 8 if call.is_grouped else _HEADS
    shapes = ((_HEADS, call.query_size), (few, call.query_size), (few, call.value_size))
    query, key, value = (
        torch.randn(2, heads, tokens, size, device="cuda", dtype=_DTYPES[call.dtype], requires_grad=True)
        for heads, size in shapes
    )
    return query, key, value


def _taken(call: sdpa.SdpaCall) -> SdpaKernel:
    mask = torch.ones(2, 1, _TOKENS, _TOKENS, device="cuda", dtype=torch.bool).tril() if call.has_mask else None
    chosen = torch._fused_sdp_choice(*_inputs(call), mask, 0.0, mask is None, enable_gqa=call.is_grouped)
    return next(kernel for backend, kernel in _BACKENDS.items() if backend.value == chosen)


def _timed_s(tokens: int) -> float:
    query, key, value = _inputs(sdpa.SdpaCall(Dtype.BF16, 64, 64), tokens)
    torch.cuda.synchronize()
    began_at_s = time.perf_counter()
    functional.scaled_dot_product_attention(query, key, value, is_causal=True).sum().backward()
    torch.cuda.synchronize()
    return time.perf_counter() - began_at_s


def _tell_memory(backend: SDPBackend, kernel: SdpaKernel, say: Say) -> None:
    """What one call keeps for its backward pass, and its peak; where this card has the kernel."""
    inputs = _inputs(sdpa.SdpaCall(Dtype.BF16, 64, 64), 2048)
    with sdpa_kernel(backend):
        try:
            functional.scaled_dot_product_attention(*inputs, is_causal=True).sum().backward()
        except RuntimeError as error:
            say.tell(f"{kernel.value} does not work here: {str(error).splitlines()[0]}")
            return
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        base_bytes, began_at_s = torch.cuda.memory_allocated(), time.perf_counter()
        out = functional.scaled_dot_product_attention(*inputs, is_causal=True)
        kept_bytes = torch.cuda.memory_allocated() - base_bytes
        out.sum().backward()
        torch.cuda.synchronize()
        took_s, peak_bytes = time.perf_counter() - began_at_s, torch.cuda.max_memory_allocated() - base_bytes
    text = (
        f"{kernel.value}: keeps {kept_bytes / 2**20:.1f} MiB, peak {peak_bytes / 2**20:.1f} MiB, {1e3 * took_s:.2f} ms"
    )
    say.tell(text, kept_bytes=kept_bytes, peak_bytes=peak_bytes, took_s=took_s)


def kernel_launches(kind: DeviceKind, say: Say) -> None:
    """How long the host takes to start a kernel that does next to nothing: what small models wait for."""
    held = torch.ones(16, device=kind.value)
    for name, act in (("alone", partial(held.add_, 1.0)), ("with its output", partial(torch.add, held, 1.0))):
        for _ in range(_LAUNCHES // 10):
            act()
        began_at_s = time.perf_counter()
        for _ in range(_LAUNCHES):
            act()
        launch_s = (time.perf_counter() - began_at_s) / _LAUNCHES
        say.tell(f"a kernel {name}: {1e6 * launch_s:.1f} µs of the host", launch_s=launch_s)


def trace(kind: DeviceKind, say: Say) -> None:
    """A few layers stand for all of a model, and nothing of it touches the device."""
    sizes: dict[str, Any] = {"vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 9}
    config = LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)
    plain = MicroStep(
        lora=None, attention=Attention.SDPA, gradient_checkpointing=GradientCheckpointing.OFF, dtype=Dtype.BF16,
        kind=kind, micro_batch=2, tokens=128, is_padded=False,
    )  # fmt: skip
    lean = replace(plain, gradient_checkpointing=GradientCheckpointing.ON)
    lora = replace(lean, lora=Lora(8, 16, ("q_proj",)))
    between = [replace(plain, gradient_checkpointing=one) for one in GradientCheckpointing if one.is_between]
    eager = replace(plain, attention=Attention.EAGER)
    for step in (plain, replace(plain, is_padded=True), lean, *between, lora, eager):
        few, all_layers = trace_of(config, step), trace_of(config, step, at_full_depth=True)
        is_same = [moment.work for moment in few.moments] == [moment.work for moment in all_layers.moments]
        peak_bytes = max(moment.activations_bytes for moment in few.moments)
        checkpointing = GRADIENT_CHECKPOINTING.of(step.gradient_checkpointing).syllable
        words = [step.attention.value, *["padded"] * step.is_padded, *[checkpointing] * bool(checkpointing)]
        text = (
            f"{'+'.join([*words, *['lora'] * (step.lora is not None)])}: {len(few.moments)} moments, {peak_bytes:,} B"
        )
        say(is_same, text, "the layers of a model are not alike for this torch: predictions are wrong")
    say(not torch.cuda.is_initialized(), "no tensor of it was on a device", "tracing touches the device: report it")


def host_optimizer(kind: DeviceKind, say: Say) -> None:
    from deepspeed.ops.op_builder import CPUAdamBuilder

    began_at_s = time.monotonic()
    CPUAdamBuilder().load()
    took_s = time.monotonic() - began_at_s
    say.tell(f"DeepSpeed's Adam for the host is there after {took_s:.0f} s", took_s=took_s)

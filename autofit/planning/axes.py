"""The rungs that a request and its pins leave, and why the others are none."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind
from autofit.domain.strategy import Attention, Dtype, Method, Offload, Rung

from .capability import why_no_flash
from .setting import Setting

OFFLOAD_ORDER = (Offload.NONE, Offload.OPTIMIZER, Offload.ALL)

_ONE_DEVICE = ((1, Offload.NONE), (2, Offload.OPTIMIZER), (3, Offload.ALL))
"""The plainest stage that can carry each offload: where nothing is divided, the stage changes nothing else."""


def pick_dtype(setting: Setting, dtypes: tuple[Dtype, ...]) -> Dtype:
    """The pinned dtype or the best; UsageError when the device does not have the pinned one."""
    pinned = setting.request.pins.dtype
    if pinned is None or pinned in dtypes:
        return pinned or dtypes[0]
    names = " or ".join(dtype.value for dtype in dtypes)
    raise UsageError(f"--dtype {pinned.value} does not work on {setting.hardware.devices[0].name}; use {names}")


def usable_kernels(kernels: tuple[Attention, ...], dtype: Dtype) -> tuple[Attention, ...]:
    """The kernels that can compute in `dtype`, best first."""
    return tuple(kernel for kernel in kernels if kernel is not Attention.FLASH_2 or dtype is not Dtype.FP32)


def pick_attention(setting: Setting, kernels: tuple[Attention, ...], dtype: Dtype) -> Attention:
    """The pinned kernel or the best; UsageError says what keeps the pinned one from working."""
    usable, pinned = usable_kernels(kernels, dtype), setting.request.pins.attention
    if pinned is None or pinned in usable:
        return pinned or usable[0]
    why = "it is not available here"
    if pinned is Attention.FLASH_2:
        why = why_no_flash(setting.hardware, dtype) or "the package flash-attn is not installed"
    names = " or ".join(kernel.value for kernel in usable)
    raise UsageError(f"--attention {pinned.value} cannot be used: {why}; use {names}")


def check_pins(setting: Setting) -> None:
    """UsageError when the pinned knobs exclude each other."""
    pins = setting.request.pins
    if pins.zero_stage not in (None, 0, 1, 2, 3):
        raise UsageError(f"--zero-stage {pins.zero_stage} is not a stage; use 1, 2 or 3")
    if pins.offload is Offload.ALL and pins.zero_stage not in (None, 3):
        raise UsageError("--offload all needs --zero-stage 3: only stage 3 can move parameters to host memory")


def combinations(setting: Setting, attention: Attention, dtype: Dtype) -> Iterator[tuple[Rung, str | None]]:
    """Every rung that the pins allow, with the reason why it is left out, None when it is to be tried."""
    pins = setting.request.pins
    methods = (pins.method,) if pins.method else (Method.FULL, Method.LORA)
    stages = (1, 2, 3) if pins.zero_stage is None else (pins.zero_stage,)
    checkpointing = (False, True) if pins.gradient_checkpointing is None else (pins.gradient_checkpointing,)
    offloads = (pins.offload,) if pins.offload else OFFLOAD_ORDER
    for method, offload, is_checkpointing, stage in product(methods, offloads, checkpointing, stages):
        if offload is not Offload.ALL or stage == 3:
            rung = Rung(method, stage, offload, is_checkpointing, attention, dtype)
            yield rung, _why_left_out(rung, setting)


def rungs(setting: Setting, attention: Attention, dtype: Dtype) -> tuple[Rung, ...]:
    """The rungs to try, memory aside."""
    return tuple(rung for rung, why in combinations(setting, attention, dtype) if why is None)


def _why_left_out(rung: Rung, setting: Setting) -> str | None:
    pins = setting.request.pins
    if setting.kind is DeviceKind.CPU and rung.offload is not Offload.NONE and pins.offload is None:
        return "offload moves nothing off a CPU"
    if setting.is_divided or pins.zero_stage is not None or (rung.zero_stage, rung.offload) in _ONE_DEVICE:
        return None
    return "its ZeRO stage divides nothing on one device"

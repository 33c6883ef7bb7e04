"""What the devices can compute with, from their compute capability alone."""

from __future__ import annotations

from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.strategy import Attention, Dtype

AMPERE = (8, 0)
"""The first compute capability with bf16 tensor cores (CUDA C programming guide) and the least of FlashAttention-2."""


def supported_dtypes(hardware: Hardware) -> tuple[Dtype, ...]:
    """Best first. Before Ampere there is only fp16, with loss scaling; a CPU has no usable fp16."""
    if hardware.kind is DeviceKind.CPU:
        return (Dtype.BF16, Dtype.FP32)
    return (Dtype.BF16, Dtype.FP16) if _is_ampere(hardware) else (Dtype.FP16,)


def supported_attention(hardware: Hardware, dtype: Dtype, flash_attn_installed: bool) -> tuple[Attention, ...]:
    """Best first. torch's own kernel works everywhere; eager is the last resort."""
    has_flash = flash_attn_installed and why_no_flash(hardware, dtype) is None
    return ((Attention.FLASH_2,) if has_flash else ()) + (Attention.SDPA, Attention.EAGER)


def why_no_flash(hardware: Hardware, dtype: Dtype) -> str | None:
    """What of the device or the dtype keeps FlashAttention-2 from running; None when nothing does."""
    if hardware.kind is DeviceKind.CPU:
        return "FlashAttention-2 does not run on a CPU"
    if not _is_ampere(hardware):
        return f"FlashAttention-2 needs compute capability 8.0 or newer, {_oldest(hardware)}"
    return "FlashAttention-2 computes in bf16 or fp16 only, not in fp32" if dtype is Dtype.FP32 else None


def _is_ampere(hardware: Hardware) -> bool:
    return all((device.compute_capability or (0, 0)) >= AMPERE for device in hardware.devices)


def _oldest(hardware: Hardware) -> str:
    device = min(hardware.devices, key=lambda device: device.compute_capability or (0, 0))
    if device.compute_capability is None:
        return f"and that of {device.name} is unknown"
    return f"{device.name} has {device.compute_capability[0]}.{device.compute_capability[1]}"

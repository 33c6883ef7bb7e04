"""What libraries ask of a GPU when they are imported, answered without CUDA in a process that forks.

At such a question torch initializes CUDA, and nothing that is forked afterwards could use a GPU: bitsandbytes 0.50 asks
for compute capabilities (cuda_specs.py), torchao 0.18 whether there is a GPU for Triton (mx_formats/kernels.py), and
PEFT and transformers import both.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.utils._triton

from autofit.worker.rank.device import device_handle, import_vendor

_LEAST_FOR_TRITON = (7, 0)  # torch/_dynamo/device_interface.py
_UNKNOWN = (0, 0)

_is_forked = False
_ask_capability, _ask_triton = torch.cuda.get_device_capability, torch.utils._triton.has_triton


def leave_devices_alone() -> None:
    """From now on, in this process; what is forked from it asks its GPU again."""
    torch.cuda.get_device_capability = _capability
    torch.utils._triton.has_triton = _has_triton  # type: ignore[assignment]
    os.register_at_fork(after_in_child=_ask_again)


def _ask_again() -> None:
    global _is_forked
    _is_forked = True  # for who has imported these functions themselves
    torch.cuda.get_device_capability = _ask_capability
    torch.utils._triton.has_triton = _ask_triton


def _capability(device: Any = None) -> tuple[int, int]:
    """Of the first GPU, whichever is asked for."""
    return _ask_capability(device) if _is_forked else _first_capability()


def _first_capability() -> tuple[int, int]:
    vendor = import_vendor()
    try:
        vendor.nvmlInit()
        major, minor = vendor.nvmlDeviceGetCudaComputeCapability(device_handle(vendor, "0"))
    except vendor.NVMLError:
        return _UNKNOWN
    return int(major), int(minor)


def _has_triton() -> bool:
    if _is_forked:
        return _ask_triton()
    has_package = torch.utils._triton.has_triton_package()
    return has_package and torch.cuda.is_available() and _first_capability() >= _LEAST_FOR_TRITON

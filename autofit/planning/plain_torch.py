"""Stage 0 of autofit's own trainings: plain torch, without DeepSpeed's engine.

What is trained is fp32, and autocast computes in the rung's dtype; what LoRA freezes is of the rung's dtype throughout,
and so is everything where LOMO or AdaLomo updates it.
"""

from __future__ import annotations

from autofit.domain.knobs.dtype import FP32_BYTES, Dtype, element_bytes
from autofit.domain.strategy import Rung

from .setting import Setting


def is_plain(rung: Rung, setting: Setting) -> bool:
    """Whether torch alone trains it. The stage 0 of a script is DeepSpeed's own, with an engine as in the others."""
    return rung.zero_stage == 0 and not setting.is_script


def has_communicator(rung: Rung, setting: Setting) -> bool:
    """Whether a rank makes one: ZeRO's engine does on a single device too, and NCCL takes its buffers there (0.92 GB on
    an H200: benchmarks/results/2026-11-27-gpu-nvidia-h200.json)."""
    return setting.is_divided or not is_plain(rung, setting)


def communicator_bytes(rung: Rung, setting: Setting) -> int:
    """The bytes on each device for the ranks to talk to each other."""
    return setting.constants.communicator_bytes if has_communicator(rung, setting) else 0


def keeps_fp32(rung: Rung, setting: Setting) -> bool:
    """Whether torch alone trains weights that are fp32, whatever is computed in."""
    return is_plain(rung, setting) and not rung.optimizer.is_fused


def is_autocast(rung: Rung, setting: Setting) -> bool:
    """Whether fp32 weights are cast whenever they are multiplied with."""
    return keeps_fp32(rung, setting) and rung.dtype is not Dtype.FP32


def trained_bytes(rung: Rung, setting: Setting) -> int:
    """The bytes of one trained parameter as the model has it, and of its gradient."""
    return FP32_BYTES if keeps_fp32(rung, setting) else element_bytes(rung.dtype)

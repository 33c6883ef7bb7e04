"""How fast a GPU's fused attention kernels compute, by the kernel, the generation and the rows' length."""

from __future__ import annotations

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.strategy import Strategy
from autofit.domain.trace import SdpaKernel
from autofit.planning.memory.sdpa import ASSUMED
from autofit.planning.setting import Setting

from .rates import fitted_speed
from .work import typical_tokens

FLASH_SHARES = (((11, 0), 0.63), ((10, 0), 0.16), ((9, 0), 0.35), ((8, 0), 0.63))
"""FlashAttention-2's FLOP/s by the peak with long rows, from a compute capability on: 63 % in the backward pass on an
A100 (Dao, FlashAttention-2, 2023, section 4.1); 35 % on an H100, whose own instructions it does not use (Shah et al.,
FlashAttention-3, 2024, abstract), and so as many FLOP/s on a B200. torch's flash kernel is the same."""

CUDNN_SHARE = 0.55
"""cuDNN's on Hopper, forward and backward together (FlashAttention-3, 2024, figures 5 and 6); a B200 is taken to be
like it."""

EFFICIENT_SHARE = 0.3
"""torch's memory-efficient kernel: about half of FlashAttention-2's speed (FlashAttention-2, figure 4)."""

HALF_SPEED_TOKENS = 512
"""Rows of this length reach half of that: their blocks fill too few multiprocessors (FlashAttention-2, figure 4)."""


def attention_flop_per_s(strategy: Strategy, setting: Setting, peak_flop_per_s: float) -> float:
    """FLOP/s of the strategy's fused kernel; on a CPU like other products. What was fitted to a device's trials scales
    it as it scales products."""
    if setting.kind is DeviceKind.CPU:
        return peak_flop_per_s * setting.constants.matmul_efficiency
    tokens = typical_tokens(strategy, setting)
    share = _share(_kernel(strategy, setting), setting.capability or ASSUMED)
    return peak_flop_per_s * share * fitted_speed(setting) * tokens / (tokens + HALF_SPEED_TOKENS)


def _kernel(strategy: Strategy, setting: Setting) -> SdpaKernel:
    """The kernel that computes most of it: the one that was traced where torch chooses, flash otherwise."""
    if strategy.rung.attention is not Attention.SDPA:
        return SdpaKernel.FLASH
    traced = [trace.sdpa_kernels for trace in setting.traces if trace.of.attention is Attention.SDPA]
    if traced and traced[0]:
        return traced[0][0]
    return SdpaKernel.FLASH if (setting.capability or ASSUMED) >= ASSUMED else SdpaKernel.EFFICIENT


def _share(kernel: SdpaKernel, capability: tuple[int, int]) -> float:
    if kernel is SdpaKernel.CUDNN:
        return CUDNN_SHARE
    if kernel is SdpaKernel.FLASH:
        return next((share for least, share in FLASH_SHARES if capability >= least), EFFICIENT_SHARE)
    return EFFICIENT_SHARE

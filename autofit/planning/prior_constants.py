"""What is believed of a kind of device before any probe on it."""

from __future__ import annotations

from dataclasses import dataclass

from autofit.domain.estimate import Constants
from autofit.domain.hardware import Device, DeviceKind

# torch 2.13 and the libraries around it take 360 MB, and 100 more by the first step: DeepSpeed's own, and oneDNN's
# kernels. A heap that gives large blocks back is hardly fragmented.
_CPU = Constants(460_000_000, 0, 1.0, 0.5, 0.5)


@dataclass(frozen=True)
class CudaContext:
    """What a CUDA context takes with torch in it before a kernel is loaded, and the least and the most that it may
    (bytes)."""

    least_bytes: int
    expected_bytes: int
    most_bytes: int


# About 3 MiB a multiprocessor, as far as people report it: 107 MiB on an RTX 4060 Ti (34 of them) and 555 on an RTX PRO
# 6000 Blackwell (188; ggml-org/llama.cpp, pull request 23604), 256 on an RTX 3090 (82; invoke-ai/InvokeAI, issue 9413),
# 426 on an RTX 6000 Ada (142; unslothai/unsloth-zoo, pull request 1053). An H100 is said to take 0.45 to 0.6 GB; on an
# H200 it was 0.65 (torch 2.11 for CUDA 13.0, driver 580; benchmarks/gpu_check.py, 2026-11-27).
_CONTEXTS = (  # from this compute capability on
    ((12, 0), CudaContext(110_000_000, 525_000_000, 600_000_000)),  # consumers' cards, many of them small
    ((9, 0), CudaContext(450_000_000, 600_000_000, 700_000_000)),  # Hopper and B200
    ((0, 0), CudaContext(110_000_000, 300_000_000, 450_000_000)),
)
# In the middle. A MIG slice has some of its GPU's multiprocessors: it may be any of these.
_UNKNOWN = CudaContext(50_000_000, 400_000_000, 700_000_000)


def context(device: Device) -> CudaContext:
    """What a CUDA context takes on a GPU."""
    capability = device.compute_capability
    if capability is None or device.is_mig:
        return _UNKNOWN
    return next(known for least, known in _CONTEXTS if capability >= least)


LATE_KERNELS_BYTES = 230_000_000
"""What the kernels of a training take that are loaded when they are first needed: on an H200 all that lay beside the
allocator, without NCCL, was 880 MB, 230 more than the context (benchmarks/results/2026-11-27-gpu-nvidia-h200.json).
Other generations were not seen."""

_COMMUNICATOR_BYTES = 900_000_000
"""NCCL's buffers: 0.92 GB in every ZeRO-1 training of one rank on an H200, 0.59 of it with the first group (the same
recording, and benchmarks/gpu_check.py); 0.5 to 0.7 GB a group on 4 × A100."""

_FRAGMENTATION = 1.08
"""Reserved by allocated bytes of whole trainings: 1.01 to 1.08 in a replay; on an H200 1.04 to 1.10 where tensors took
more than 10 GB, 1.12 to 1.29 of less and 1.13 to 1.23 under ZeRO-3 (the same recording), all with room to spare. Where
room is short the allocator gives back what it keeps."""

_MATMUL_SHARES = (  # from this compute capability on
    ((12, 0), 0.75),  # consumers' cards
    ((9, 0), 0.57),  # Hopper and B200
    ((0, 0), 0.75),
)
"""What matrix products reach of a GPU's peak in training. The best shape reaches 0.869 on an A100 SXM, 0.803 on an H100
SXM and 0.776 on a B200 (stas00/ml-engineering, compute/accelerator/README.md, maximum achievable matmul FLOPS). Whole
trainings reach 0.72 on an A100 (FlashAttention-2's GPT, Dao 2023, section 4.2) and 0.47 on H100s (Megatron-LM's
README), of which a twentieth and a fifth of the time are no products: the faster the cores, the more of their peak
power and bandwidth take away. Known error: boards of less power than a generation's largest reach less, and GeForce
cards, whose printed peak is half of what their cores could, more (0.9 on an L20: xlite-dev/CUDA-Learn-Notes)."""


def _matmul_share(device: Device) -> float:
    capability = device.compute_capability or (0, 0)
    return next(share for least, share in _MATMUL_SHARES if capability >= least)


def prior(device: Device) -> Constants:
    """The constants of a device before any trial."""
    if device.kind is DeviceKind.CPU:
        return _CPU
    runtime_bytes = context(device).expected_bytes + LATE_KERNELS_BYTES
    return Constants(runtime_bytes, _COMMUNICATOR_BYTES, _FRAGMENTATION, _matmul_share(device), 0.7)

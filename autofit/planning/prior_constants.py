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
    """What a lazily loaded CUDA context takes with torch in it, and the least and the most that it may (bytes)."""

    least_bytes: int
    expected_bytes: int
    most_bytes: int


@dataclass(frozen=True)
class BesideTensors:
    """What cards of a generation hold beside tensors: the communicator's bytes, and what the allocator reserves by what
    it gives out; each expected and at worst, before any trial."""

    communicator_bytes: int
    worst_communicator_bytes: int
    fragmentation: float
    worst_fragmentation: float
    worst_gathered_fragmentation: float  # under ZeRO-3


# About 3 MiB a multiprocessor, as far as people report it: 107 MiB on an RTX 4060 Ti (34 of them) and 555 on an RTX PRO
# 6000 Blackwell (188; ggml-org/llama.cpp, pull request 23604), 256 on an RTX 3090 (82; invoke-ai/InvokeAI, issue 9413),
# 426 on an RTX 6000 Ada (142; unslothai/unsloth-zoo, pull request 1053). On an H200 it was 650 MB, and 880 with the
# kernels that a training loads (torch 2.11 for CUDA 13.0, driver 580; benchmarks/gpu_check.py and gpu_suite.py,
# 2026-11-27).
_CONTEXTS = (  # from this compute capability on
    ((12, 0), CudaContext(110_000_000, 525_000_000, 600_000_000)),  # consumers' cards, many of them small
    ((9, 0), CudaContext(450_000_000, 830_000_000, 1_000_000_000)),  # Hopper and B200
    ((0, 0), CudaContext(110_000_000, 300_000_000, 450_000_000)),
)
# In the middle. A MIG slice has some of its GPU's multiprocessors: it may be any of these.
_UNKNOWN = CudaContext(50_000_000, 400_000_000, 1_000_000_000)

# NCCL took 0.5 to 0.7 GB a group on 4 × A100, and the allocator reserved 1.01 to 1.08 times what it had given out in a
# replay. Under ZeRO-3 gathered parameters and copies of sub-groups, each of its own size, come and go between what
# stays: in extreme cases more than 30 % of the memory was left when it was out of it (Rajbhandari et al., ZeRO, 2020,
# section 3.2).
_REPORTED = BesideTensors(600_000_000, 1_000_000_000, 1.04, 1.08, 1.15)

# On an H200 with room to spare (benchmarks/results/2026-11-27-gpu-nvidia-h200.json): NCCL took 0.92 GB of one rank,
# and the allocator reserved 1.04 to 1.10 times what it had given out where that was more than 10 GB, 1.12 to 1.29 times
# where it was less, 1.13 to 1.23 under ZeRO-3. Where room is short it gives back what it keeps.
_HOPPER = BesideTensors(900_000_000, 1_200_000_000, 1.08, 1.20, 1.25)


def context(device: Device) -> CudaContext:
    """What a CUDA context takes on a GPU."""
    capability = device.compute_capability
    if capability is None or device.is_mig:
        return _UNKNOWN
    return next(known for least, known in _CONTEXTS if capability >= least)


def beside_tensors(device: Device) -> BesideTensors:
    """What a GPU holds beside tensors and the context."""
    return _HOPPER if (9, 0) <= (device.compute_capability or (0, 0)) < (12, 0) else _REPORTED


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
    beside = beside_tensors(device)
    return Constants(
        runtime_bytes=context(device).expected_bytes,
        communicator_bytes=beside.communicator_bytes,
        fragmentation=beside.fragmentation,
        matmul_efficiency=_matmul_share(device),
        bandwidth_efficiency=0.7,
    )

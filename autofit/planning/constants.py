"""What is believed of a kind of device before any probe on it."""

from __future__ import annotations

from autofit.domain.constants import Constants
from autofit.domain.hardware import DeviceKind

_PRIORS = {
    # A lazily loaded CUDA context takes 0.3 GB at least; NCCL 0.5 to 0.7 GB a group on 4 × A100; the caching allocator
    # reserved 1.01 to 1.08 times what was allocated in a replay.
    DeviceKind.CUDA: Constants(300_000_000, 600_000_000, 1.04, 0.5, 0.7),
    # torch 2.13 and the libraries around it take 400 MB, and 100 more by the first step: DeepSpeed's own, and oneDNN's
    # kernels. A heap that gives large blocks back is hardly fragmented.
    DeviceKind.CPU: Constants(500_000_000, 0, 1.0, 0.5, 0.5),
}


def prior(kind: DeviceKind) -> Constants:
    return _PRIORS[kind]

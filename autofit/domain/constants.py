"""What no formula gives and a device must tell: fitted from its probes, remembered per kind of device and versions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Constants:
    """Priors, or what was fitted from `fitted_from` trials.

    Memory: a device holds `runtime_bytes` beside the tensors (context, kernels), `communicator_bytes` more with several
    ranks, and `fragmentation` times the bytes of its tensors. Speed: matrix products reach `matmul_efficiency` of the
    peak FLOP/s, everything else `bandwidth_efficiency` of the memory's bandwidth.
    """

    runtime_bytes: int
    communicator_bytes: int
    fragmentation: float
    matmul_efficiency: float
    bandwidth_efficiency: float
    fitted_from: int = 0

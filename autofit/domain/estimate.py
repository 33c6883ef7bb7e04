"""Predicted memory and speed of a Strategy, with their uncertainty, and the constants of a device that they rest on."""

from __future__ import annotations

from dataclasses import dataclass

from .outcome import Phase


@dataclass(frozen=True)
class HostEstimate:
    """Bytes of host memory of one node at the peak, all its ranks, by kind; the first three sum to `peak_bytes`.

    `offloaded_bytes` are the part of them that offload keeps there throughout the training, without what pinning rounds
    up. `mapped_bytes` are the weights' files, which the kernel takes back when memory is short: no part of the peak.
    """

    runtime_bytes: int  # every rank's process with its libraries
    unpinned_bytes: int = 0
    pinned_bytes: int = 0  # with what torch's allocator rounds up to and keeps
    offloaded_bytes: int = 0
    mapped_bytes: int = 0

    @property
    def peak_bytes(self) -> int:
        return self.runtime_bytes + self.unpinned_bytes + self.pinned_bytes


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on one device at the peak, by what holds them; the parts sum to `peak_bytes`."""

    parameters_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    buffers_bytes: int
    runtime_bytes: int
    low_bytes: int  # the true peak is not below this
    high_bytes: int  # nor above this
    host: HostEstimate
    phase: Phase = Phase.BACKWARD  # when the peak is reached
    kept_share: float | None = None  # of an optimizer that is offloaded in part: what stays on the device

    @property
    def peak_bytes(self) -> int:
        return (
            self.parameters_bytes + self.gradients_bytes + self.optimizer_bytes
            + self.activations_bytes + self.buffers_bytes + self.runtime_bytes
        )  # fmt: skip

    @property
    def host_bytes(self) -> int:
        return self.host.peak_bytes


@dataclass(frozen=True)
class SpeedEstimate:
    """Seconds of one optimizer step of the global batch; the parts sum to `step_s`.

    `communication_s` and `offload_s` are what computation does not hide, `clearing_s` what clearing freed memory takes
    where a CPU rank's heap may not keep it. `is_absolute` is False where nothing is known of the device's rates: then
    only ratios between two strategies mean something.
    """

    tokens_per_step: float
    compute_s: float
    communication_s: float
    offload_s: float
    update_s: float
    is_absolute: bool = True
    clearing_s: float = 0.0

    @property
    def step_s(self) -> float:
        return self.compute_s + self.communication_s + self.offload_s + self.update_s + self.clearing_s

    @property
    def tokens_per_s(self) -> float:
        return self.tokens_per_step / self.step_s


@dataclass(frozen=True)
class Estimate:
    memory: MemoryEstimate
    speed: SpeedEstimate


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

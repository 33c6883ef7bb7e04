"""Predicted memory and relative speed of a Strategy, with their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass


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
    high_bytes: int
    host_bytes: int  # whole node, all its ranks

    @property
    def peak_bytes(self) -> int:
        return (
            self.parameters_bytes + self.gradients_bytes + self.optimizer_bytes
            + self.activations_bytes + self.buffers_bytes + self.runtime_bytes
        )  # fmt: skip


@dataclass(frozen=True)
class CostEstimate:
    """Time per token relative to all parameters with ZeRO-1 and nothing else turned on (1.0), and where it may lie."""

    expected: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    memory: MemoryEstimate
    cost: CostEstimate

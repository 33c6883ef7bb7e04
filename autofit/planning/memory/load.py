"""What the tensors on one rank's device take at one moment."""

from __future__ import annotations

from dataclasses import dataclass, replace

from autofit.domain.outcome import Phase


@dataclass(frozen=True)
class Load:
    """Bytes by what holds them; `total_bytes` leaves out the runtime.

    `ahead_bytes` are a part of the buffers: parameters that ZeRO-3 has gathered before they are needed.
    """

    phase: Phase
    parameters_bytes: int = 0
    gradients_bytes: int = 0
    optimizer_bytes: int = 0
    activations_bytes: int = 0
    buffers_bytes: int = 0
    ahead_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return (
            self.parameters_bytes + self.gradients_bytes + self.optimizer_bytes
            + self.activations_bytes + self.buffers_bytes
        )  # fmt: skip

    @property
    def least(self) -> Load:
        """The load without what is gathered ahead."""
        if not self.ahead_bytes:
            return self
        return replace(self, buffers_bytes=self.buffers_bytes - self.ahead_bytes, ahead_bytes=0)

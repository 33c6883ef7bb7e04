"""The directions in which the power of the devices differs between strategies, and how far."""

from __future__ import annotations

from autofit.domain.strategy import Strategy

from .error_model import UNKNOWN_RATES_STD, moved_offload
from .posterior import Effect

OWN_POWER_STD = 0.03
WORK_POWER_STD = 0.05
WAITING_POWER_STD = 0.2
ROWS_POWER_STD = 0.1
"""Of the power of all devices: a rung's own, that of what is computed, of the waiting for what is moved, and of a
device that few rows do not fill. Guesses, and wide: nobody has measured them, and the first probes narrow them."""


def power_effects(strategy: Strategy) -> tuple[Effect, ...]:
    """The effects on the logarithm of the watts of all devices: a device that waits for the host, for others or for
    more rows takes less than one that multiplies."""
    rung = strategy.rung
    return (
        Effect("power", UNKNOWN_RATES_STD),
        Effect(f"power {rung}", OWN_POWER_STD),
        Effect(f"power {rung.zero_stage} {moved_offload(rung).value}", WAITING_POWER_STD),
        Effect(f"power {rung.method.value} {rung.gradient_checkpointing.value}", WORK_POWER_STD),
        Effect("power rows", ROWS_POWER_STD, 1 / strategy.micro_batch),
    )

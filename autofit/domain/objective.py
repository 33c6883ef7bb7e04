"""What a search looks for among the configurations that fit."""

from __future__ import annotations

from enum import Enum


class Objective(str, Enum):
    SPEED = "speed"
    MEMORY = "memory"  # the least peak on a device
    ENERGY = "energy"  # the fewest joules a token
    BALANCED = "balanced"  # the greatest product of SpeedUp, MemoryUp and, where energy is measured, EnergyUp

    @property
    def counts_memory(self) -> bool:
        """Whether what fits is the better the less memory it needs."""
        return self in (Objective.MEMORY, Objective.BALANCED)

"""How good a prediction is for what is looked for, greater for what takes less: what a search measures, foreseen."""

from __future__ import annotations

from autofit.domain.estimate import Estimate
from autofit.domain.objective import Objective


def predicted_merit(estimate: Estimate, objective: Objective) -> float:
    """Tokens/s for speed, 1 / peak bytes for memory, and their product for what is balanced.

    Energy is time at the power of the devices, which is the same for all that one machine can run: there the fastest
    takes the least, and what is balanced is no other with energy than without.
    """
    speed, peak_bytes = estimate.speed.tokens_per_s, estimate.memory.peak_bytes
    if objective is Objective.MEMORY:
        return 1 / peak_bytes
    return speed / peak_bytes if objective is Objective.BALANCED else speed

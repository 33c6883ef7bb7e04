"""LOMO and AdaLomo (Lv et al., 2306.09782 and 2310.10195): the update of a parameter within the backward pass."""

from __future__ import annotations

from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.strategy import Rung

CHUNK_ELEMENTS = 2**22
"""Elements of a parameter that the update holds in fp32 at a time. A copy of a chunk is 16 MiB, so that nothing as
large as an embedding is copied; kernels on larger pieces are hardly faster (a GPU moves one in some 20 µs, and a launch
takes 4)."""


def is_fused(rung: Rung) -> bool:
    """Whether each parameter is updated as its gradient comes, in the rung's dtype: no gradient, no fp32 master weight
    and no more than factored states of it are kept."""
    return rung.optimizer.is_fused


def keeps_factored_states(rung: Rung) -> bool:
    """Whether the second moments of a matrix are kept as one number a row and one a column."""
    return rung.optimizer is Optimizer.ADALOMO

"""Which fused update a job trains with."""

from __future__ import annotations

from dataclasses import dataclass

from autofit.domain.knobs.optimizer import Optimizer
from autofit.planning.gradient_clipping import clipping_norm
from autofit.probing.protocol import Job

from .adalomo import AdaLomo
from .lomo import Lomo
from .rounding import StochasticRounding
from .rule import Rule


@dataclass(frozen=True)
class FusedUpdate:
    """LOMO or AdaLomo. `clipping_norm` is where it clips gradients, 0 where it does not; `seed` is that of what is
    rounded by chance."""

    optimizer: Optimizer
    clipping_norm: float
    seed: int

    @staticmethod
    def of(job: Job) -> FusedUpdate | None:
        """That of a job; None where its optimizer updates after the backward pass."""
        optimizer, training = job.strategy.rung.optimizer, job.request.training
        if not optimizer.is_fused:
            return None
        return FusedUpdate(optimizer, clipping_norm(optimizer, training.extra_arguments), training.seed)

    def rule(self) -> Rule:
        rounding = StochasticRounding(self.seed)
        return AdaLomo(rounding) if self.optimizer is Optimizer.ADALOMO else Lomo(rounding)

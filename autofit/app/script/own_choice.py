"""The user's own configuration as the choice: where nothing is faster, and where nothing more is worth its time."""

from __future__ import annotations

from dataclasses import dataclass, replace

from autofit.app.script.script_inspector import Inspection, ScriptAsIs
from autofit.domain.outcome import Measured
from autofit.domain.training_length import TrainingLength
from autofit.domain.trial import Choice
from autofit.planning.plan.fit import fits
from autofit.planning.script.held_knobs import is_loadable
from autofit.planning.script.script_setting import own_strategy
from autofit.planning.script.training_length import CLAIMED_STEPS, may_measure_again, start_s, why_nothing_pays

STAYS = "your own configuration stays"

_ENOUGH = 0.99
"""The share of the choice's speed at which the user's own configuration is kept."""


@dataclass(frozen=True)
class OwnConfiguration:
    """The configuration that a script came with; `has_autotuning`: with it DeepSpeed would end the training early."""

    as_is: ScriptAsIs
    has_autotuning: bool
    device_bytes: int

    def if_nothing_pays(self, rest: TrainingLength, known: Inspection) -> Choice | None:
        """The choice where the rest of the training is over before the script could be started once more; else None."""
        measured = self._stayable(known)
        why = None if measured is None else why_nothing_pays(rest, measured)
        if measured is None or why is None:
            return None
        return Choice(own_strategy(self.as_is.facts), measured, f"{STAYS}; {why}", reach_s=start_s(measured))

    def if_fastest(self, choice: Choice, known: Inspection) -> Choice | None:
        """The choice where `choice`, to which a search came, is no faster; else None."""
        measured, own = self._stayable(known), own_strategy(self.as_is.facts)
        if measured is None or measured.tokens_per_s < _ENOUGH * choice.probed.tokens_per_s:
            return None
        why = f"; stopped: {choice.why}" if choice.strategy == own else ": nothing that was probed is faster"
        return replace(choice, strategy=own, measured=measured, why=f"{STAYS}{why}")

    def is_claim_weak(self, choice: Choice, rest: TrainingLength) -> bool:
        """Whether too few steps were measured to say how much faster the choice is, and more of them cost little."""
        own = self.as_is.outcome
        if not isinstance(own, Measured) or (own.step_count or CLAIMED_STEPS) >= CLAIMED_STEPS:
            return False
        return may_measure_again(rest, own, choice.probed)

    def _stayable(self, known: Inspection) -> Measured | None:
        """What was measured of it; None where the training cannot start with it."""
        outcome = self.as_is.outcome
        if self.has_autotuning or not isinstance(outcome, Measured) or not fits(outcome, self.device_bytes):
            return None
        return outcome if is_loadable(known.rewriter.knobs, self.as_is.facts) else None

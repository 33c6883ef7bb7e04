"""When a training has gone wrong: its losses and gradient norms judged against their own history.

Pure: what is taken is the same on every rank, so that every rank comes to the same verdict at the same step.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median

from autofit.domain.divergence import Symptom

REFERENCE_STEPS = 50  # the sound steps that a value is compared with


@dataclass(frozen=True)
class Fault:
    """What is wrong with one step, and for how many of them in a row a training may bear it."""

    symptom: Symptom
    patience: int


LOSS_NOT_FINITE = Fault(Symptom.LOSS_NOT_FINITE, 3)
GRADIENT_NOT_FINITE = Fault(Symptom.GRADIENT_NOT_FINITE, 3)
# A dynamic loss scale begins at 2^16 and is halved at each overflow: 16 such steps and its hysteresis are its way down.
GRADIENT_OVERFLOWS = Fault(Symptom.GRADIENT_OVERFLOWS, 40)
LOSS_EXPLODED = Fault(Symptom.LOSS_EXPLODED, 5)
GRADIENT_EXPLODED = Fault(Symptom.GRADIENT_EXPLODED, 5)


@dataclass(frozen=True)
class Trouble:
    """A trouble that goes on now, since `first_step`; `is_persistent` when it may be borne no longer.

    A step shows what the update before it has left: of the weights only those before the last sound step's update are
    known to be good, the ones after `good_step` updates.
    """

    first_step: int
    good_step: int
    symptom: Symptom
    is_persistent: bool

    def __str__(self) -> str:
        return f"{self.symptom.value} since step {self.first_step:,}"


@dataclass(frozen=True)
class Limit:
    """How far beyond the median of the sound values a value may lie: by `factor` and by `margin`: a small value may
    multiply and do no harm."""

    factor: float
    margin: float


# A loss that triples and grows by 3 nats for five batches in a row is no rough batch: e^3 is a perplexity 20 times as
# high. Norms are clipped, so that a hundredfold one does no harm.
_LOSS = Limit(3.0, 3.0)
_NORM = Limit(1000.0, 10.0)


@dataclass
class _Series:
    """One quantity of a training, step by step."""

    limit: Limit
    not_finite: Fault
    exploded: Fault
    _sound_step: int
    _sound: deque[float] = field(default_factory=lambda: deque(maxlen=REFERENCE_STEPS))
    _fault: Fault | None = None
    _first_step: int = 0
    _count: int = 0

    def take(self, step: int, value: float, fault: Fault | None = None) -> None:
        """Takes one value; `fault` where it is known already what is wrong."""
        found = fault or self._judged(value)
        if found is None:
            self._sound.append(value)
            self._fault, self._sound_step, self._count = None, step, 0
            return
        self._first_step = step if self._fault is None else self._first_step
        self._fault, self._count = found, self._count + 1

    def _judged(self, value: float) -> Fault | None:
        if not math.isfinite(value):
            return self.not_finite
        if not self._sound:
            return None
        usual = median(self._sound)
        is_beyond = value > usual * self.limit.factor and value > usual + self.limit.margin
        return self.exploded if is_beyond else None

    @property
    def trouble(self) -> Trouble | None:
        if self._fault is None:
            return None
        good_step = max(0, self._sound_step - 1)
        return Trouble(self._first_step, good_step, self._fault.symptom, self._count >= self._fault.patience)


class Judge:
    """The judge of a training that goes on after `first_step` steps.

    `scales_loss` where fp16's loss is scaled: an overflow there only lowers the scale.
    """

    def __init__(self, first_step: int, *, scales_loss: bool) -> None:
        self._overflow = GRADIENT_OVERFLOWS if scales_loss else GRADIENT_NOT_FINITE
        self._losses = _Series(_LOSS, LOSS_NOT_FINITE, LOSS_EXPLODED, first_step)
        self._norms = _Series(_NORM, GRADIENT_NOT_FINITE, GRADIENT_EXPLODED, first_step)

    def take_loss(self, step: int, loss: float) -> None:
        self._losses.take(step, loss)

    def take_gradient(self, step: int, norm: float, *, was_skipped: bool) -> None:
        """Takes the norm of a step's gradients, which says nothing where the step was skipped: ZeRO-3 leaves the last
        one there."""
        self._norms.take(step, norm, self._overflow if was_skipped else None)

    @property
    def trouble(self) -> Trouble | None:
        """The trouble of the two that is lasting, or what tells more: of a loss that is lost the gradients are, too."""
        found = [trouble for trouble in (self._losses.trouble, self._norms.trouble) if trouble is not None]
        if not found:
            return None
        told = next((trouble for trouble in found if trouble.is_persistent), found[0])
        first_step, good_step = min(t.first_step for t in found), min(t.good_step for t in found)
        return Trouble(first_step, good_step, told.symptom, told.is_persistent)

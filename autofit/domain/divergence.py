"""Why a full run's training was called lost."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Union


class Symptom(str, Enum):
    """What is wrong with a training's steps, as people read it."""

    LOSS_NOT_FINITE = "the loss is not finite"
    GRADIENT_NOT_FINITE = "the gradients are not finite"
    GRADIENT_OVERFLOWS = "the gradients overflow at every loss scale"
    LOSS_EXPLODED = "the loss has exploded"
    GRADIENT_EXPLODED = "the gradient norm has exploded"


@dataclass(frozen=True)
class Stopped:
    """Something was wrong with too many steps in a row, from `first_step` on."""

    symptom: Symptom
    first_step: int
    good_checkpoint: str | None  # the last one from before; None: there is none


@dataclass(frozen=True)
class EndedNotFinite:
    """It came to its last step, and a loss of the model that it made is no number."""

    is_evaluation: bool  # otherwise the training's own loss
    first_step: int | None  # from which on something was wrong; None: nothing was to be seen before
    good_checkpoint: str | None


@dataclass(frozen=True)
class ChangedNothing:
    """It came to its last step with the weights that it began with."""

    was_skipped: bool  # DeepSpeed skipped every step; otherwise the learning rate or the gradient was 0


Divergence = Union[Stopped, EndedNotFinite, ChangedNothing]

"""The norm at which gradients are clipped: DeepSpeed's configuration and the trainer's arguments must say the same one.

transformers compares the two when it makes its arguments (5.23, `trainer_config_process` in integrations/deepspeed.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from autofit.domain.errors import UsageError
from autofit.domain.knobs.optimizer import Optimizer
from autofit.planning.argument_words import values_of

DEFAULT_NORM = 1.0
"""The norm at which Hugging Face's trainer clips by default."""

_NAME = "max_grad_norm"


def gradient_clipping(words: Sequence[str]) -> float:
    """The norm that `words` (training arguments after `--`) ask for, the last one as argparse takes it; 0 clips
    nothing. UsageError for what is no norm."""
    text = [str(DEFAULT_NORM), *values_of(words, _NAME)][-1]
    try:
        norm = float(text)
    except ValueError:
        norm = math.nan
    if not 0 <= norm < math.inf:
        raise UsageError(f"training argument --max_grad_norm {text} is no norm: give a number, or 0 for no clipping")
    return norm


def why_unclipped(optimizer: Optimizer, words: Sequence[str]) -> str | None:
    """Why a training with `optimizer` cannot clip at the norm that `words` ask for; None where it can, or where they
    ask for none. UsageError as `gradient_clipping`."""
    if optimizer is not Optimizer.ADALOMO or not any(values_of(words, _NAME)) or not gradient_clipping(words):
        return None
    return f"--{_NAME} {gradient_clipping(words):g}: AdaLomo bounds its updates itself and clips no gradients"


def clipping_norm(optimizer: Optimizer, words: Sequence[str]) -> float:
    """The norm at which a training with `optimizer` clips; 0: nowhere. UsageError as `gradient_clipping`.

    LOMO must know the norm before its first update: a forward and a backward pass more in each step, so that it clips
    only where it is asked to. AdaLomo bounds its updates in another way.
    """
    norm = gradient_clipping(words)
    if optimizer is Optimizer.ADALOMO or (optimizer is Optimizer.LOMO and not any(values_of(words, _NAME))):
        return 0.0
    return norm

"""What torch is told of the host memory that it pins: large blocks are to be as they are asked for, and given back.

Its allocator rounds every block up to a power of two and keeps it, which costs an offloaded training up to 80 % more of
the host. torch 2.13 can be told otherwise (pytorch/pytorch, pull request 171662); older ones know no such keys.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from autofit.hardware.requirements import EXACT_PINS
from autofit.planning.memory.pinned import KEYS, VARIABLE, WORDS

OLDER_VARIABLE = "PYTORCH_CUDA_ALLOC_CONF"
"""torch reads it where `VARIABLE` is not set (c10/core/AllocatorConfig.h)."""


def has_exact_pins(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a training started from here pins large blocks as they are: torch can, and its user has not said how."""
    return EXACT_PINS.is_met and not any(key in _own_words(environment) for key in KEYS)


def exact_pins(environment: Mapping[str, str]) -> dict[str, str]:
    """The variable that says so, after what `environment` says of torch's allocators; none where `has_exact_pins` is
    False."""
    if not has_exact_pins(environment):
        return {}
    return {VARIABLE: ",".join(words for words in (_own_words(environment), WORDS) if words)}


def exact_pins_script() -> str:
    """The same as lines of a shell script, for whatever its user says when it runs."""
    if not EXACT_PINS.is_met:
        return ""
    return f"""\
allocators=${{{VARIABLE}:-${{{OLDER_VARIABLE}:-}}}}
case $allocators in
  {"|".join(f"*{key}*" for key in KEYS)}) ;;
  *) export {VARIABLE}="${{allocators:+$allocators,}}{WORDS}" ;;
esac
"""


def _own_words(environment: Mapping[str, str]) -> str:
    return environment.get(VARIABLE) or environment.get(OLDER_VARIABLE, "")

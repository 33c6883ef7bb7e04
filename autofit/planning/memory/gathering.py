"""Whether a model that ZeRO-3 divides is gathered for a generation: where the device has room for it."""

from __future__ import annotations

from dataclasses import replace

from autofit.domain.strategy import Strategy
from autofit.planning.answers import gathering_asked
from autofit.planning.setting import Setting

from .interval import HEADROOM
from .peak_memory import estimate_memory


def with_gathering(strategy: Strategy, setting: Setting) -> Setting:
    """The setting with a generation that gathers the model once, as the user asks for or where the upper end of the
    estimate leaves HEADROOM; without, its layers are gathered anew for each token, which is slow.

    What trials have taught is left out, as for the bucket: a probe, those after it and the full run do the same.
    """
    if not setting.request.task.traits.generates or strategy.rung.zero_stage < 3 or not setting.is_divided:
        return setting
    asked = gathering_asked(setting.request)
    is_gathered = _has_room(strategy, setting) if asked is None else asked
    return setting.once((with_gathering, is_gathered), lambda: replace(setting, gathers_generation=is_gathered))


def _has_room(strategy: Strategy, setting: Setting) -> bool:
    whole = replace(setting, known_constants=None, gathers_generation=True)
    return estimate_memory(strategy, whole).high_bytes <= (1 - HEADROOM) * setting.device_memory_bytes

"""How a rung's checkpointing is said to transformers, beside what the user says of it after `--`.

What is kept of attention is said to the model itself (job_model.py): trl 1.16 has an argument for it, but hands it on
to torch, which knows no such thing, where the model has adapters.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.worker.training.argument_fields import CHECKPOINTING_KWARGS

RUNG_KEYS = {"every_n_layers": "every-2", "offload": "offload", "selective": "selective"}
"""The keys, transformers' two and trl's one, that a value of --gradient-checkpointing takes the place of."""

_OF_TRANSFORMERS = ("every_n_layers", "offload")


def checkpointing_arguments(checkpointing: GradientCheckpointing, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that say it; `extra` are the user's, whose keys for torch's own function are kept.

    trl refuses some keys where nothing is checkpointed, so that none is given then.
    """
    newer, older = CHECKPOINTING_KWARGS
    fields: dict[str, Any] = {"gradient_checkpointing": checkpointing.recomputes, newer: None, older: None}
    if not checkpointing.recomputes:
        return fields
    given = extra.get(newer) or extra.get(older)
    keys = {**(json.loads(given) if given else {}), **_own_keys(checkpointing)}
    return {**fields, newer: keys or None}


def _own_keys(checkpointing: GradientCheckpointing) -> dict[str, Any]:
    if checkpointing is GradientCheckpointing.EVERY_2:
        return {"every_n_layers": checkpointing.every_n_layers}
    return {"offload": True} if checkpointing is GradientCheckpointing.OFFLOAD else {}


def checkpoint_as_told(model: PreTrainedModel) -> None:
    """Has the model take transformers' own keys among torch's when checkpointing is turned on.

    transformers' trainer tells them apart when a training begins; trl 1.16, which turns checkpointing off for the
    forward pass of a reference, hands all of them on to torch when it turns it on again.
    """
    enable = model.gradient_checkpointing_enable

    @functools.wraps(enable)
    def divided(gradient_checkpointing_kwargs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        given: Mapping[str, Any] = gradient_checkpointing_kwargs or {}
        own = {name: value for name, value in given.items() if name in _OF_TRANSFORMERS}
        torchs = {name: value for name, value in given.items() if name not in _OF_TRANSFORMERS}
        enable(torchs or None, **{**own, **kwargs})

    model.gradient_checkpointing_enable = divided

"""A config's `zero_optimization` in one spelling: DeepSpeed reads many of its keys by two names, and some by older
words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autofit.planning.export.deepspeed_config import GATHER_ON_SAVE, OFFLOAD_KEYS

ZERO_KEY = "zero_optimization"

SHORT_NAMES = frozenset({
    "allgather_sequential", "gather_16bit_weights_on_model_save", "max_live_parameters", "max_reuse_distance",
    "model_persistence_threshold", "module_granularity_threshold", "param_persistence_threshold",
    "prefetch_bucket_size", "use_all_reduce_for_fetch_params",
})  # fmt: skip
"""Keys that mean the same with `stage3_` before them (DeepSpeed 0.19.8, the aliases of DeepSpeedZeroConfig)."""

OLDER_NAMES = {"stage3_gather_fp16_weights_on_model_save": GATHER_ON_SAVE}
OLDER_SWITCHES = {"cpu_offload": OFFLOAD_KEYS[0], "cpu_offload_param": OFFLOAD_KEYS[1]}
"""Deprecated keys, with what DeepSpeed 0.19.8 reads in their place; a switch that is on stands for a section."""

_ALLGATHER_SIZE, _DEFAULT_ALLGATHER_SIZE = "allgather_size", 5 * 10**8  # beside a switch (read_zero_config_deprecated)


def zero_section(config: Mapping[str, Any]) -> dict[str, Any]:
    """The section with each key by its one name, and without offload that is null: DeepSpeed reads that as not said.

    A section that is a switch is stage 1 or none, as DeepSpeed has it.
    """
    section = config.get(ZERO_KEY)
    if isinstance(section, bool):
        section = _switched(section, config)
    section = section or {}
    named = {_name(key): value for key, value in section.items() if key not in OLDER_SWITCHES}
    switched = {OLDER_SWITCHES[key]: _moved(value) for key, value in section.items() if key in OLDER_SWITCHES}
    return {key: value for key, value in {**switched, **named}.items() if key not in OFFLOAD_KEYS or value is not None}


def _switched(is_on: bool, config: Mapping[str, Any]) -> dict[str, Any]:
    if not is_on:
        return {"stage": 0}
    return {"stage": 1, "allgather_bucket_size": config.get(_ALLGATHER_SIZE, _DEFAULT_ALLGATHER_SIZE)}


def _name(key: str) -> str:
    return f"stage3_{key}" if key in SHORT_NAMES else OLDER_NAMES.get(key, key)


def _moved(is_on: object) -> dict[str, str] | None:
    return None if is_on is None else {"device": "cpu" if is_on else "none"}

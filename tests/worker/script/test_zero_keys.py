"""The keys of DeepSpeed's own configuration, each by all its names, through a script's copy."""

from __future__ import annotations

import json
from typing import Any

import pytest
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig, get_zero_config

from autofit.domain.hardware import DeviceKind
from autofit.domain.strategy import Strategy
from autofit.planning.script.config_rewriter import ConfigRewriter
from autofit.planning.script.tunable_knobs import tunable_knobs
from autofit.planning.script.zero_section import OLDER_NAMES, OLDER_SWITCHES, SHORT_NAMES, zero_section
from tests.builders import make_facts, make_rung

FIELDS = DeepSpeedZeroConfig.model_fields
DEPRECATED = {name for name, field in FIELDS.items() if (field.json_schema_extra or {}).get("deprecated")}  # type: ignore[union-attr]
OFFLOAD = {"device": "cpu", "pin_memory": True}


def _sample(name: str) -> Any:
    """A value of the key that is not its default."""
    if name.startswith("offload_"):
        return OFFLOAD
    if name in ("zenflow", "leaf_module", "log_trace_cache_warnings"):
        return {"zenflow": None, "leaf_module": {}, "log_trace_cache_warnings": True}[name]
    default = FIELDS[name].default
    return True if default is None else not default if isinstance(default, bool) else 7


def _spellings() -> list[tuple[str, Any]]:
    names = [name for name in FIELDS if name != "stage"]
    pairs = [(name, _sample(name)) for name in names]
    return pairs + [(field.alias, _sample(name)) for name, field in FIELDS.items() if field.alias]


def test_the_tables_are_those_of_the_installed_deepspeed() -> None:
    assert {f"stage3_{name}" for name in SHORT_NAMES} == {field.alias for field in FIELDS.values() if field.alias}
    assert {*OLDER_NAMES, *OLDER_SWITCHES} == {
        name
        for name in DEPRECATED
        if (FIELDS[name].json_schema_extra or {}).get("set_new_param", True)  # type: ignore[union-attr]
    }


def _meaning(config: dict[str, Any]) -> dict[str, Any]:
    """What DeepSpeed reads of a config's section, by the keys of today."""
    read: dict[str, Any] = get_zero_config(config).model_dump()
    return {key: value for key, value in read.items() if key not in DEPRECATED}


@pytest.mark.parametrize(("name", "value"), _spellings())
@pytest.mark.parametrize("stage", [2, 3])
def test_every_key_means_in_the_copy_what_it_means_in_the_config(name: str, value: Any, stage: int) -> None:
    """But for the sizes of buckets that nobody said, which autofit fits to the model."""
    if (stage, name) == (3, "compute_grad_norm"):
        pytest.skip("DeepSpeed refuses it at stage 3")
    value = stage < 3 if name == "overlap_comm" else value  # whose default is the other one
    config = {"train_batch_size": 32, "zero_optimization": {"stage": stage, name: value}}
    meant, unsaid = _meaning(config), _meaning({"zero_optimization": {"stage": stage}})
    assert _meaning({"zero_optimization": zero_section(config)}) == meant
    rewriter = ConfigRewriter(
        config, (), tunable_knobs(config, (), frozenset()), make_facts(zero_stage=stage), 64, DeviceKind.CPU
    )
    copy = json.loads(rewriter.trained(Strategy(make_rung(stage), 1, 16), "ds.json").config)
    said = {key: worth for key, worth in meant.items() if worth != unsaid[key]}
    assert said or name in ("cpu_offload_use_pin_memory", "leaf_module", "zenflow"), "a value that says something"
    turned = _meaning(copy)
    assert {key: turned[key] for key in said} == said


@pytest.mark.parametrize("switch", [True, False])
def test_a_section_that_is_a_switch_is_read_as_deepspeed_reads_it(switch: bool) -> None:
    config = {"train_batch_size": 32, "zero_optimization": switch, "allgather_size": 10**6}
    assert _meaning({"zero_optimization": zero_section(config)}) == _meaning(config)


@pytest.mark.parametrize("key", ["offload_optimizer", "offload_param", "cpu_offload"])
def test_an_offload_that_is_null_is_not_said(key: str) -> None:
    config = {"zero_optimization": {"stage": 2, key: None}}
    assert zero_section(config) == {"stage": 2}
    assert tunable_knobs(config, (), frozenset()).can_tune_offload

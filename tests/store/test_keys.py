"""What makes two searches, two models or two devices the same, and what does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autofit.domain.hardware import Hardware, Link, Node
from autofit.domain.knobs.pins import Pins
from autofit.domain.request import Lora, Training
from autofit.store.fingerprint import ModelSource, facts_fingerprint, trace_fingerprint
from autofit.store.location import store_path
from autofit.store.trial_key import TrialKey
from autofit.store.versions import Versions, versions
from tests.report import simulated
from tests.store.samples import KEY, VERSIONS

CONFIG = {
    "_name_or_path": "/home/a/llama",
    "architectures": ["LlamaForCausalLM"],
    "transformers_version": "4.31.0",
    "hidden_size": 4096,
    "text_config": {"_name_or_path": "b", "num_hidden_layers": 32},
}

SOURCE: ModelSource = (CONFIG, "")


def key(**changes: Any) -> TrialKey:
    facts = {
        "request": simulated.REQUEST,
        "shape": simulated.SHAPE,
        "rows": simulated.PROFILE.lengths,
        "hardware": simulated.HARDWARE,
        "versions": VERSIONS,
    }
    return TrialKey.of(**{**facts, **changes})


def hardware(**changes: Any) -> Hardware:
    node = simulated.HARDWARE.nodes[0]
    return replace(simulated.HARDWARE, nodes=(replace(node, **changes),))


def busier(node: Node) -> Hardware:
    """With less of everything free, and other numbers for the same devices."""
    host = replace(node.host, name="node-b", memory_available_bytes=1, disk_free_bytes=1)
    return hardware(host=host, devices=tuple(replace(d, uuid=None, memory_free_bytes=1) for d in node.devices))


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": replace(simulated.SHAPE, name="a copy")},
        {"hardware": busier(simulated.HARDWARE.nodes[0])},
        {"request": replace(simulated.REQUEST, pins=Pins(zero_stage=2), training=Training(seed=1, epochs=1))},
    ],
)
def test_what_makes_no_difference(changes: dict[str, Any]) -> None:
    assert key(**changes).digest == KEY.digest


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": replace(simulated.SHAPE, layer_count=41)},
        {"request": replace(simulated.REQUEST, sequence_length=1024)},
        {"request": replace(simulated.REQUEST, global_batch=16)},
        {"request": replace(simulated.REQUEST, lora=Lora(8))},
        {"request": replace(simulated.REQUEST, training=Training(extra_arguments=("--packing", "true")))},
        {"rows": replace(simulated.PROFILE, longest_tokens=1900).lengths},
        {"rows": replace(simulated.PROFILE, sampled_lengths_tokens=(300, 2048, 2048)).lengths},
        {"request": replace(simulated.REQUEST, eval_data="evaluated.jsonl")},
        {"hardware": replace(simulated.HARDWARE, memory_limit_bytes=24 * simulated.GB)},
        {"hardware": hardware(devices=simulated.DEVICES[:4])},
        {"hardware": hardware(link=Link.PCIE)},
        {"versions": replace(VERSIONS, deepspeed="0.20")},
    ],
)
def test_what_makes_a_difference(changes: dict[str, Any]) -> None:
    assert key(**changes).digest != KEY.digest


def fingerprint(config: dict[str, Any] = CONFIG, versions: Versions = VERSIONS, tracer: int = 1) -> str:
    return trace_fingerprint((config, ""), versions=versions, tracer_version=tracer)


def test_a_fingerprint_passes_over_where_a_config_came_from() -> None:
    moved = {"hidden_size": 4096, "text_config": {"num_hidden_layers": 32}, "architectures": ["LlamaForCausalLM"]}
    assert fingerprint(moved) == fingerprint()
    assert fingerprint(versions=replace(VERSIONS, deepspeed=None, autofit="9")) == fingerprint()


def test_a_fingerprint_heeds_what_a_trace_depends_on() -> None:
    others = [
        fingerprint(CONFIG | {"architectures": ["MistralForCausalLM"]}),
        fingerprint(CONFIG | {"text_config": {"num_hidden_layers": 33}}),
        fingerprint(versions=replace(VERSIONS, torch="2.14")),
        fingerprint(versions=replace(VERSIONS, peft="0.22")),
        fingerprint(tracer=2),
        trace_fingerprint(SOURCE, versions=VERSIONS, tracer_version=1, extra_arguments=("--use_liger_kernel", "true")),
        trace_fingerprint((CONFIG, "code"), versions=VERSIONS, tracer_version=1),
    ]
    assert len({fingerprint(), *others}) == 8


def test_a_models_facts_depend_on_its_class_and_on_where_its_adapters_go() -> None:
    def name(source: ModelSource = SOURCE, version: int = 1, **lora: Any) -> str:
        return facts_fingerprint(source, versions=VERSIONS, describer_version=version, lora=Lora(**lora))

    others = [name(r=8), name(exclude_modules=("v_proj",)), name(version=2), name((CONFIG, "code"))]
    assert len({name(), *others}) == 5
    assert name(({**CONFIG, "_name_or_path": "/elsewhere"}, "")) == name()


def test_the_versions_are_those_that_are_installed() -> None:
    from importlib.metadata import version

    assert versions().torch == version("torch")
    assert versions().deepspeed == version("deepspeed")


def test_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/a")
    assert store_path({"AUTOFIT_CACHE": "/c", "XDG_CACHE_HOME": "/x"}) == Path("/c/autofit.sqlite")
    assert store_path({"XDG_CACHE_HOME": "/x"}) == Path("/x/autofit/autofit.sqlite")
    assert store_path({}) == Path("/home/a/.cache/autofit/autofit.sqlite")

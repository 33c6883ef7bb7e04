"""Machines, shapes, requests and what scripts show: what a test does not name is of no matter to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autofit.domain.hardware import Device, DeviceKind, Hardware, Host, Link, Node
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.model import ModelShape, ParameterGroup
from autofit.domain.request import Request, Training
from autofit.domain.script import Ask, Counting, ScriptFacts
from autofit.domain.strategy import Rung

GB = 10**9
LLAMA_7B = ModelShape("Llama-2-7B", "llama", 32, 4096, 32, 32, 128, 11008, 32000, 6_738_415_616)


def make_device(index: int = 0, kind: DeviceKind = DeviceKind.CPU, *, memory_gb: float = 8, **changes: Any) -> Device:
    """With all of its memory free; `changes` are fields of Device."""
    memory_bytes = round(memory_gb * GB)
    values = {"name": f"{kind.value} of a test", "sku": None, "uuid": None, **changes}
    return Device(kind, index, memory_total_bytes=memory_bytes, memory_free_bytes=memory_bytes, **values)


def make_host(memory_gb: float = 64, *, name: str = "here", core_count: int = 8, **changes: Any) -> Host:
    """With all of its memory, and as much of its disk, free; `changes` are further fields of Host."""
    memory_bytes = round(memory_gb * GB)
    return Host(name, core_count, memory_bytes, memory_bytes, memory_bytes, **changes)


def make_hardware(
    count: int = 1,
    kind: DeviceKind = DeviceKind.CPU,
    *,
    devices: Sequence[Device] = (),
    host: Host | None = None,
    link: Link = Link.HOST,
    memory_limit_bytes: int | None = None,
    **device: Any,
) -> Hardware:
    """One node of `devices`, or of `count` equal ones, of which `device` is what `make_device` is told."""
    ranks = tuple(devices) or tuple(make_device(index, kind, **device) for index in range(count))
    return Hardware((Node(host or make_host(), ranks, link),), memory_limit_bytes)


def make_shape(name: str, layer_count: int, hidden_size: int, parameter_count: int) -> ModelShape:
    """Of Llama's proportions: heads of 128, and a feed-forward 2.7 times as wide as the model."""
    heads, width = hidden_size // 128, round(hidden_size * 2.7)
    return ModelShape(name, "llama", layer_count, hidden_size, heads, heads, 128, width, 32000, parameter_count)


def make_rung(zero_stage: int = 1, **values: Any) -> Rung:
    """All parameters, bf16, torch's own attention, and nothing else turned on; `values` are those that differ."""
    plain = {
        "method": Method.FULL, "gradient_checkpointing": GradientCheckpointing.OFF, "offload": Offload.NONE,
        "dtype": Dtype.BF16, "attention": Attention.SDPA,
    }  # fmt: skip
    return Rung(zero_stage=zero_stage, **{**plain, **values})


def make_request(
    model: object = "m",
    tokens: int = 64,
    *,
    extra: tuple[str, ...] = (),
    training: Training | None = None,
    **asked: Any,
) -> Request:
    """`extra` are arguments after `--`, of a training of which nothing else is told; `asked` are fields of Request."""
    return Request(str(model), tokens, training=training or Training(extra_arguments=extra), **asked)


def make_facts(**shown: Any) -> ScriptFacts:
    """Of a script with transformers' Trainer and a tiny Llama on two ranks; `shown` are fields of ScriptFacts."""
    values = {
        "model_class": "LlamaForCausalLM",
        "model_config": "{}",
        "parameters": (ParameterGroup(1024, 10, True, 2),),
        "buffers_bytes": 0,
        "optimizer": "AdamW",
        "dtype": Dtype.BF16,
        "zero_stage": 0,
        "offload": Offload.NONE,
        "micro_batch": 8,
        "gradient_accumulation": 2,
        "rank_count": 2,
        "gradient_checkpointing": False,
        "attention": Attention.SDPA,
        "rows": 8,
        "tokens": 128,
        "counting": Counting((Ask.TRAINER,)),
        "accumulation_flag": "--gradient_accumulation_steps",
    }
    return ScriptFacts(**{**values, **shown})

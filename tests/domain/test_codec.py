from __future__ import annotations

import ast
import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest

import autofit
from autofit.domain.codec import decode, decode_union, encode, to_json
from autofit.domain.hardware import Device, DeviceKind, Hardware, Host, Node
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.pins import Pins
from autofit.domain.outcome import Measured, Outcome, OutOfMemory, Phase, Place
from autofit.domain.request import Lora, Request, Training
from autofit.domain.strategy import Strategy
from tests.builders import make_rung

REQUEST = Request(
    model="m",
    sequence_length=256,
    lora=Lora(r=8, target_modules=("q_proj",)),
    pins=Pins(method=Method.LORA, offload=Offload.ALL, gradient_checkpointing=GradientCheckpointing.OFF),
    training=Training(max_steps=3, learning_rate=1e-3, extra_arguments=("--warmup_steps", "3")),
)
HARDWARE = Hardware(
    (Node(Host("h", 2, 8, 4, 1), (Device(DeviceKind.CUDA, 0, "A100", None, "GPU-1", 80, 79, (8, 0)),)),), 24
)


@pytest.mark.parametrize("value", [REQUEST, HARDWARE])
def test_a_value_survives_json(value: object) -> None:
    assert decode(type(value), json.loads(json.dumps(encode(value)))) == value


def test_a_union_is_told_apart_by_its_tag() -> None:
    outcome = OutOfMemory(1, Phase.BACKWARD, Place.DEVICE, "no room", 5)
    assert decode_union(Outcome, json.loads(json.dumps(encode(outcome)))) == outcome


def test_an_unknown_field_is_passed_over_and_a_missing_one_is_named() -> None:
    body = encode(REQUEST) | {"from_a_later_version": 1}
    assert decode(Request, body) == REQUEST
    del body["model"]
    with pytest.raises(ValueError, match="model"):
        decode(Request, body)


@pytest.mark.parametrize(
    ("field", "value"),
    [("sequence_length", "256"), ("sequence_length", True), ("pins", {"method": "magic"}), ("lora", None)],
)
def test_a_value_of_the_wrong_kind_is_refused(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=r"Request\." + field if field != "pins" else "magic"):
        decode(Request, encode(REQUEST) | {field: value})


def test_a_tag_cannot_name_a_class_outside_the_union() -> None:
    with pytest.raises(ValueError, match="Request"):
        decode_union(Outcome, encode(REQUEST))


def test_a_float_may_be_written_as_an_integer() -> None:
    measured = Measured(1, 2, 3.0, 4.0, 5.0, 6.0)
    assert decode(Measured, encode(measured) | {"tokens_per_s": 3}) == measured


def test_what_json_cannot_hold_is_refused() -> None:
    @dataclass(frozen=True)
    class Odd:
        value: object

    with pytest.raises(TypeError, match="set"):
        encode(Odd({1}))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_written_as_none(number: float) -> None:
    assert to_json({"loss": number, "losses": (1.0, number)}) == '{"loss": null, "losses": [1.0, null]}'
    with pytest.raises(ValueError, match=r"Measured\.tokens_per_s"):  # where there must be one
        decode(Measured, encode(Measured(1, 2, number, 4.0, 5.0, 6.0)))


def test_whoever_writes_json_writes_no_other_words() -> None:
    """Python's own `json` would write NaN, which is none."""
    package = Path(autofit.__file__).parent
    calls = [
        (path, ast.unparse(node))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dumps", "json.dump")
    ]
    assert calls
    assert [call for call in calls if "allow_nan=False" not in call[1]] == []


def test_a_strategy_reads_as_one_short_line() -> None:
    rung = make_rung(2, method=Method.LORA, gradient_checkpointing=GradientCheckpointing.ON)
    assert str(Strategy(rung, 4, 2)) == "zero2+lora+gc mb4"
    rung = make_rung(3, offload=Offload.ALL, attention=Attention.EAGER, dtype=Dtype.FP16)
    assert str(rung) == "zero3+offload-all+fp16+eager"

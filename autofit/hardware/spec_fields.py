"""The `key=value` part of a described machine."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from autofit.domain.errors import UsageError
from autofit.domain.hardware import AMPERE, Link, Rates
from autofit.domain.units import format_bytes, parse_bytes

T = TypeVar("T")

FORMS = ("8xA100-80GB or 2x8xV100-32GB", "describe it: gpus=8,memory=48GiB,tflops=150")

NODE_KEYS = ("nodes", "host", "cores", "network")
DEVICE_KEYS = ("gpus", "memory", "tflops", "fp32_tflops", "bandwidth", "nvlink", "pcie", "capability", "power", "name")

FLOP_PER_BYTE = 150
"""Peak 16-bit FLOP/s by bytes/s of memory where nobody gave the latter: V100 139, A100 153, RTX 4090 164, H100 295."""

FP32_SHARE = 1 / 16
"""fp32 by 16-bit FLOP/s where nobody gave it: A100 1/16, V100 1/8, H100 1/15, RTX 4090 1/2."""

_MOST_DIGITS = 9  # of a count

PCIE_BYTES_PER_S = 32e9
"""PCIe 4.0 with 16 lanes, one direction."""


@dataclass(frozen=True)
class NodeFields:
    """How many devices a node has, and what is around them; None where the text does not say."""

    node_count: int
    device_count: int
    host_bytes: int | None
    core_count: int | None
    network_bytes_per_s: float | None
    link: Link


@dataclass(frozen=True)
class DeviceFields:
    name: str | None
    memory_bytes: int
    compute_capability: tuple[int, int]
    rates: Rates
    assumed: tuple[str, ...]  # what the text does not say, with the key that would


def split_fields(text: str) -> tuple[str | None, dict[str, str]]:
    """The name in front, None without one, and the fields by their keys. UsageError for a key that is none."""
    name, fields = None, {}
    for place, part in enumerate(piece.strip() for piece in text.split(",")):
        key, is_field, value = part.partition("=")
        if not is_field and place == 0 and part:
            name = part
            continue
        key = key.strip().lower()
        allowed = (*NODE_KEYS[1:],) if name else (*NODE_KEYS, *DEVICE_KEYS)
        if not is_field or key not in allowed or key in fields or not value.strip():
            raise UsageError(_bad_field(text, part, key, allowed, key in fields))
        fields[key] = value.strip()
    return name, fields


def read_node(fields: Mapping[str, str], text: str) -> NodeFields:
    """Reads the fields of a node; UsageError names the value that is not what its key needs."""
    return NodeFields(
        node_count=_read(fields, "nodes", _count, text) or 1,
        device_count=_read(fields, "gpus", _count, text) or 1,
        host_bytes=_read(fields, "host", parse_bytes, text),
        core_count=_read(fields, "cores", _count, text),
        network_bytes_per_s=_read(fields, "network", _bytes_per_s, text),
        link=Link.NVLINK if "nvlink" in fields else Link.PCIE,
    )


def read_device(fields: Mapping[str, str], text: str) -> DeviceFields:
    """Reads the fields of a device that no table has. Links are in one direction. UsageError also when memory or tflops
    are missing."""
    memory_bytes, tflops = _read(fields, "memory", parse_bytes, text), _read(fields, "tflops", _positive, text)
    if memory_bytes is None or tflops is None:
        missing = " and ".join(key for key in ("memory", "tflops") if key not in fields)
        raise UsageError(f"--on {text}: {missing} missing; name a known device ({FORMS[0]}) or {FORMS[1]}.")
    peak, fp32_tflops = tflops * 1e12, _read(fields, "fp32_tflops", _positive, text)
    capability = _read(fields, "capability", _capability, text) or AMPERE
    rates = Rates(
        bf16_flop_per_s=peak if capability >= AMPERE else None,
        fp16_flop_per_s=peak,
        fp32_flop_per_s=peak * FP32_SHARE if fp32_tflops is None else fp32_tflops * 1e12,
        memory_bytes_per_s=_read(fields, "bandwidth", _bytes_per_s, text) or peak / FLOP_PER_BYTE,
        host_link_bytes_per_s=_read(fields, "pcie", _bytes_per_s, text) or PCIE_BYTES_PER_S,
        device_link_bytes_per_s=_read(fields, "nvlink", _bytes_per_s, text),
        power_w=_read(fields, "power", _positive, text),
    )
    return DeviceFields(fields.get("name"), memory_bytes, capability, rates, _assumed(fields, rates))


def _assumed(fields: Mapping[str, str], rates: Rates) -> tuple[str, ...]:
    said = {
        "bandwidth": f"{format_bytes(rates.memory_bytes_per_s)}/s of device memory",
        "pcie": f"{format_bytes(rates.host_link_bytes_per_s)}/s to the host",
        "capability": f"compute capability {AMPERE[0]}.{AMPERE[1]}",
    }
    return tuple(f"{text} ({key}=…)" for key, text in said.items() if key not in fields)


def _bad_field(text: str, part: str, key: str, allowed: tuple[str, ...], is_double: bool) -> str:
    if is_double:
        return f"--on {text}: {key} is given twice; give it once."
    if key in allowed:
        return f"--on {text}: '{part}' has no value; write {key}=…."
    near = difflib.get_close_matches(key, allowed, n=1)
    hint = f"did you mean {near[0]}=…?" if near else f"what can be said here: {', '.join(allowed)}."
    return f"--on {text}: '{part}' is not understood; {hint}"


def _read(fields: Mapping[str, str], key: str, read: Callable[[str], T], text: str) -> T | None:
    if key not in fields:
        return None
    try:
        return read(fields[key])
    except ValueError as error:
        raise UsageError(f"--on {text}: {key}: {error}.") from error


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > _MOST_DIGITS or int(text) < 1:
        raise ValueError(f"'{text[:40]}' is not a count; write a whole number above 0")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(f"'{text}' is not a number above 0")
    return value


def _bytes_per_s(text: str) -> float:
    value = float(parse_bytes(text.removesuffix("/s")))
    if value <= 0:
        raise ValueError(f"'{text}' is no speed; write it like 25GB, in bytes a second and one direction")
    return value


def _capability(text: str) -> tuple[int, int]:
    major, dot, minor = text.partition(".")
    if not (dot and major.isdecimal() and minor.isdecimal()):
        raise ValueError(f"'{text}' is not a compute capability; write it like 8.9")
    return int(major), int(minor)

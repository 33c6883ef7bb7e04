"""Domain values to JSON-ready values and back: dataclasses, enums, tuples, optionals and tagged unions.

A dataclass that stands in a union is written with its class name under "type"; decoding never runs code from the data.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache, partial
from typing import Any, Protocol, TypeVar, Union, cast, get_args, get_origin, get_type_hints, runtime_checkable

T = TypeVar("T")


@runtime_checkable
class SelfWritten(Protocol):
    """A dataclass whose fields in a file are others than its own; it is made of these by name."""

    def as_fields(self) -> Mapping[str, Any]: ...

    @classmethod
    def field_kinds(cls) -> Mapping[str, Any]: ...


def encode(value: object) -> Any:
    """Writes `value` as dicts, lists, strings, numbers, booleans and None, which also stands for a number that is not
    finite: JSON has no word for one."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        body = {name: encode(item) for name, item in fields_of(value).items()}
        return {"type": type(value).__name__, **body}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {str(key): encode(item) for key, item in value.items()}
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"cannot encode {type(value).__name__}")


def fields_of(value: object) -> Mapping[str, Any]:
    """The fields of a dataclass by their names, as they are written."""
    if isinstance(value, SelfWritten):
        return value.as_fields()
    assert is_dataclass(value)
    return {field.name: getattr(value, field.name) for field in fields(value)}


def to_json(value: object, **layout: Any) -> str:
    """Writes `value` as JSON that any reader takes; `layout` is json.dumps's."""
    return json.dumps(encode(value), allow_nan=False, **layout)


def decode(kind: type[T], value: Any) -> T:
    """Reads the `kind` that `encode` wrote; ValueError names the field that does not fit. Unknown fields are
    ignored."""
    return cast(T, _decode(kind, value, kind.__name__ if isinstance(kind, type) else "value"))


def decode_union(union: Any, value: Any) -> Any:
    """Decodes like `decode`, for a `Union[...]` of dataclasses such as Outcome."""
    return _decode(union, value, "value")


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    """The types of what a dataclass is made of."""
    if issubclass(kind, SelfWritten):
        return kind.field_kinds()
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(cast(Any, kind)) if field.init}


def _decode(kind: Any, value: Any, where: str) -> Any:
    return _reader(kind)(value, where)


@cache
def _reader(kind: Any) -> Callable[[Any, str], Any]:
    """What reads a value of the kind, which stands at a place that an error names."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return partial(_decode_member, get_args(kind))
    if origin is tuple:
        return partial(_decode_tuple, get_args(kind))
    if is_dataclass(kind):
        return partial(_decode_dataclass, cast(type, kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda value, where: kind(value)
    return partial(_decode_plain, kind)


def _decode_plain(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{where}: expected {kind.__name__}, found {value!r}")
    return value


def _decode_member(members: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in members:
        return None
    kinds = [member for member in members if member is not type(None)]
    if len(kinds) == 1:
        return _decode(kinds[0], value, where)
    tag = value.get("type") if isinstance(value, dict) else None
    for kind in kinds:
        if kind.__name__ == tag:
            return _decode(kind, value, where)
    raise ValueError(f"{where}: unknown kind {tag!r}")


def _decode_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{where}: expected a list, found {value!r}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    return tuple(_decode(kind, item, where) for kind, item in zip(arguments, value, strict=True))


def _decode_dataclass(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected an object, found {value!r}")
    hints = _hints(kind)
    body = {name: _decode(hints[name], item, f"{where}.{name}") for name, item in value.items() if name in hints}
    try:
        return kind(**body)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error

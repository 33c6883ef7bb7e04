"""Domain values as compressed JSON, and as names that stay the same from run to run."""

from __future__ import annotations

import hashlib
import json
import zlib
from typing import TypeVar

from autofit.domain.codec import decode, to_json

T = TypeVar("T")


def pack(value: object) -> bytes:
    return zlib.compress(canonical(value).encode())


def unpack(kind: type[T], packed: bytes) -> T:
    """The `kind` that `pack` was given; ValueError when it holds something else."""
    try:
        text = zlib.decompress(packed).decode()
    except zlib.error as error:
        raise ValueError(f"damaged: {error}") from error
    return decode(kind, json.loads(text))


def canonical(value: object) -> str:
    """The values as JSON that is equal where they are."""
    return to_json(value, sort_keys=True, separators=(",", ":"))


def digest(*values: object) -> str:
    """A name for the values: 64 hexadecimal digits."""
    return hashlib.sha256(canonical(values).encode()).hexdigest()

"""What a file of `torch.save` says in plain values: found in its opcodes, so that nothing of it is run."""

from __future__ import annotations

import pickletools
import zipfile
from itertools import pairwise
from pathlib import Path

Scalar = bool | int | float | str | None
_PUTS = ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE")
_TEXTS = ("BINUNICODE", "SHORT_BINUNICODE")
_ENUM = tuple(("GLOBAL", text, "TUPLE1") for text in _TEXTS)
_SWITCHES = {"NEWTRUE": True, "NEWFALSE": False, "NONE": None}
_PLAIN = ("BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "LONG1")


def named_scalars(path: Path) -> dict[str, Scalar]:
    """Finds for each name the number, switch, text or member of a text's enum that first stands behind it; empty where
    `path` is no such file."""
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            opcodes = [(op.name, value) for op, value, _ in pickletools.genops(archive.read(name))]
    except (OSError, ValueError, StopIteration, zipfile.BadZipFile):
        return {}
    told = [(op, value) for op, value in opcodes if op not in _PUTS]
    found: dict[str, Scalar] = {}
    for (key_op, key), (op, _), (value_op, value), (end, _) in zip(told, told[1:], told[2:], told[3:], strict=False):
        is_named = key_op in _TEXTS and (op, value_op, end) in _ENUM
        if is_named:
            found.setdefault(str(key), value)
    for (key_op, key), (op, value) in pairwise(told):
        if key_op in _TEXTS and (op in _PLAIN or op in _SWITCHES):
            found.setdefault(str(key), _SWITCHES.get(op, value))
    return found

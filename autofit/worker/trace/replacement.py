"""Names in other packages that mean something else for a while."""

from __future__ import annotations

import contextlib
from collections.abc import MutableMapping
from typing import Any


def replace_name(stack: contextlib.ExitStack, module: Any, name: str, value: Any) -> None:
    """Gives `name` another value until the stack closes; a name that was not there goes again."""
    if hasattr(module, name):
        stack.callback(setattr, module, name, getattr(module, name))
    else:
        stack.callback(delattr, module, name)
    setattr(module, name, value)


def replace_entry(stack: contextlib.ExitStack, mapping: MutableMapping[str, Any], key: str, value: Any) -> None:
    """Gives an entry that is there another value until the stack closes."""
    stack.callback(mapping.__setitem__, key, mapping[key])
    mapping[key] = value

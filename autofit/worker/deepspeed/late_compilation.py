"""DeepSpeed's Muon imported without torch's compiler, which comes when Muon is used."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


def import_muon() -> None:
    """Imports what every engine of DeepSpeed imports when it is made.

    Three functions of its Muon are decorated with `torch.compile`, which imports torch's inductor at once: half a
    second for an optimizer that few use. Here they are compiled at their first call.
    """
    from deepspeed.runtime import compiler

    decorator = compiler.compile
    compiler.compile = lambda: compiled_late
    try:
        import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401
    finally:
        compiler.compile = decorator


def compiled_late(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled by `torch.compile` when it is called for the first time."""

    @functools.cache
    def compiled() -> Callable[..., Any]:
        return torch.compile(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return compiled()(*args, **kwargs)

    return call

"""Libraries imported without torch's compiler, which comes when what it compiles is used."""

from __future__ import annotations

import functools
import importlib.util
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


def import_bitsandbytes() -> None:
    """Imports bitsandbytes where it is installed, as PEFT does at once. Four of its functions, for devices without
    kernels of its own, are decorated with `torch.compile` (backends/default/ops.py): half a second likewise."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return
    compiler = torch.compile
    torch.compile = compiled_late  # type: ignore[assignment]
    try:
        import bitsandbytes  # noqa: F401
    finally:
        torch.compile = compiler


def compiled_late(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """The function, compiled by `torch.compile` with `options` when it is called for the first time."""

    @functools.cache
    def compiled() -> Callable[..., Any]:
        compiled_now: Callable[..., Any] = torch.compile(function, **options)
        return compiled_now

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return compiled()(*args, **kwargs)

    return call

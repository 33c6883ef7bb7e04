"""Torch's operators on fake tensors, in half the time: what an operator makes is remembered by the shapes that it
takes, and a view is made by its kernel alone.

A trace calls some thousand operators, most of them on shapes that were there before. Torch remembers them, too, with
keys that take longer to make than many a result.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch._subclasses import FakeTensor, FakeTensorMode
from torch._subclasses.fake_tensor import in_kernel_invocation_manager

MOST = 50_000
"""Operators on shapes that are remembered: some hundred traces."""

_DEVICE = torch.ops.prim.device.default
_UNNAMED_VIEWS = {torch.ops.aten._unsafe_view.default}
"""Those whose schema does not say that their result lies where their argument does."""


@dataclass(frozen=True)
class _Made:
    """A tensor that an operator makes anew."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def again(self, mode: FakeTensorMode) -> FakeTensor:
        with in_kernel_invocation_manager(mode):
            like = torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device="meta")
        return FakeTensor(mode, like, self.device)


_REMEMBERED: dict[Hashable, _Made] = {}


def call(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the operator gives, under a FakeTensorMode."""
    first = args[0] if args else None
    if isinstance(first, FakeTensor) and not kwargs:
        if func is _DEVICE:
            return first.fake_device
        if (func.is_view or func in _UNNAMED_VIEWS) and _is_plain(first):
            return _viewed(func, args, first.fake_mode, first.fake_device)
    taken: list[torch.Tensor] = []
    key = (func, _key(args, taken), _key(kwargs.items(), taken))
    plain = [tensor for tensor in taken if _is_plain(tensor)]
    if not taken or len(plain) < len(taken) or func._schema.is_mutable:
        return func(*args, **kwargs)
    known = _REMEMBERED.get(key)
    if known is not None:
        return known.again(plain[0].fake_mode)
    out = func(*args, **kwargs)
    if (made := _made_anew(out, taken)) is not None:
        if len(_REMEMBERED) >= MOST:
            _REMEMBERED.clear()
        _REMEMBERED[key] = made
    return out


def _viewed(func: Any, args: tuple[Any, ...], mode: FakeTensorMode, device: torch.device) -> Any:
    with in_kernel_invocation_manager(mode):
        out = func(*args)
    if isinstance(out, torch.Tensor):
        return FakeTensor(mode, out, device)
    return [FakeTensor(mode, one, device) for one in out]


def _key(values: Iterable[Any], taken: list[torch.Tensor]) -> Hashable:
    """Tells the arguments apart as far as their shapes and the like go; the tensors among them are `taken`."""
    parts: list[Hashable] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            taken.append(value)
            parts.append((value.shape, value.stride(), value.dtype, value.fake_device) if _is_plain(value) else None)
        elif isinstance(value, (list, tuple)):
            parts.append(_key(value, taken))
        else:
            parts.append((type(value), value))  # 1 and 1.0 and True are equal, and give other dtypes
    return tuple(parts)


def _is_plain(tensor: torch.Tensor) -> TypeGuard[FakeTensor]:
    """Whether it is a fake tensor of which all that counts is its shape: neither known by its value nor sparse nor
    conjugated."""
    return (
        isinstance(tensor, FakeTensor)
        and tensor.constant is None
        and tensor.layout is torch.strided
        and not tensor.dtype.is_complex
    )


def _made_anew(out: Any, taken: Iterable[torch.Tensor]) -> _Made | None:
    """What tells a result that is one plain tensor of its own, whole storage; None of any other."""
    if not isinstance(out, torch.Tensor) or not _is_plain(out) or out.storage_offset() != 0:
        return None
    storage = out.untyped_storage()
    if any(storage._cdata == one.untyped_storage()._cdata for one in taken):
        return None
    made = _Made(tuple(out.shape), out.stride(), out.dtype, out.fake_device)
    return made if made.again(out.fake_mode).untyped_storage().nbytes() == storage.nbytes() else None

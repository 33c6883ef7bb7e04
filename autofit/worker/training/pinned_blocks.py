"""Pinned host memory of activations, which come and go with each layer: its blocks are kept for the next one."""

from __future__ import annotations

import os

import torch

from autofit.planning.memory.pinned import KEYS, VARIABLE, WORDS

_WITHOUT_LIMIT = ",".join(f"{key}:{2**30}" for key in KEYS)  # in MiB


def keep_pinned_blocks() -> None:
    """Has torch round pinned blocks up and keep them, as it does unless it was told otherwise: pinning takes longer
    than the copy. Before anything is pinned: blocks that were not rounded must not be kept, for one is taken for
    another of its order of size (get_free_block in aten/src/ATen/core/CachingHostAllocator.h, torch 2.13)."""
    if WORDS in os.environ.get(VARIABLE, ""):
        torch._C._accelerator_setAllocatorSettings(_WITHOUT_LIMIT)

"""How much of a host pinned memory really takes: torch's caching host allocator rounds its blocks up and keeps them."""

from __future__ import annotations

from collections.abc import Iterable

EXACT_FROM_BYTES = 2 * 2**20
"""Blocks above this are pinned as they are, and given back, where torch is told so (`pinned_max_round_threshold_mb` and
`pinned_max_cached_size_mb`, torch 2.13). What a training pins again and again, its batches, is smaller: 262,144 token
ids."""

VARIABLE = "PYTORCH_ALLOC_CONF"
KEYS = ("pinned_max_round_threshold_mb", "pinned_max_cached_size_mb")
WORDS = ",".join(f"{key}:{EXACT_FROM_BYTES // 2**20}" for key in KEYS)
"""How torch is told so, by a variable of the environment."""


def block_bytes(size_bytes: int, *, is_exact: bool) -> int:
    """The bytes of one pinned block: the next power of two, but for large ones where `is_exact` (allocate in
    aten/src/ATen/core/CachingHostAllocator.h, torch 2.13; earlier ones round all)."""
    if size_bytes <= 0:
        return 0
    return size_bytes if is_exact and size_bytes > EXACT_FROM_BYTES else 1 << (size_bytes - 1).bit_length()


def taken_bytes(sizes_bytes: Iterable[int], *, is_exact: bool) -> int:
    """The bytes that blocks of these sizes take together."""
    return sum(block_bytes(size, is_exact=is_exact) for size in sizes_bytes)


def kept_bytes(sizes_bytes: Iterable[int], *, is_exact: bool) -> int:
    """The bytes that blocks of these sizes still take once they were given back: the allocator keeps them."""
    return sum(block_bytes(size, is_exact=is_exact) for size in sizes_bytes if not is_exact or size <= EXACT_FROM_BYTES)

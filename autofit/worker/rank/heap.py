"""glibc's heap of a CPU rank, which is its device: exact while its memory is measured, quick while it trains.

Exact: every block of a megabyte or more is mapped by itself and given back at once, so that what is held is what
tensors take. The kernel clears each anew, which costs a third of the CPU time of a step of 1,024 tokens a rank and more
of a larger one. Quick: freed blocks stay in the heap for the next ones; it breaks up, and holds up to half as much
again as the tensors.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_EXACT_BYTES = 2**20
_KEPT_BYTES = 2**30
_OLD_MOST_BYTES = 2**25  # HEAP_MAX_SIZE / 2, above which an older glibc takes no threshold of mappings


def give_back_at_once() -> None:
    """Asks of glibc's malloc what the agents' environment asks (`CPU_ALLOCATOR`), for a process that DeepSpeed's
    launcher has started: it passes no such variables on to other nodes. Before the first thread."""
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
    give_back()


def give_back() -> None:
    """Makes the heap exact, and gives back what is free in it now."""
    libc = ctypes.CDLL(None)
    for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
        libc.mallopt(parameter, _EXACT_BYTES)
    libc.malloc_trim(ctypes.c_size_t(0))


def keep_freed(room_bytes: int) -> None:
    """Makes the heap quick; `room_bytes` of it are cleared now, and not while the next step is timed."""
    libc = ctypes.CDLL(None)
    if not libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES):
        libc.mallopt(_M_MMAP_THRESHOLD, _OLD_MOST_BYTES)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)  # an int's largest: never
    libc.malloc.restype = ctypes.c_void_p
    block = libc.malloc(ctypes.c_size_t(room_bytes))
    if block:
        ctypes.memset(block, 0, room_bytes)
        libc.free(ctypes.c_void_p(block))

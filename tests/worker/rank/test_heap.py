"""glibc's heap: exact while memory is measured, quick while a rank trains; by the pages that the kernel clears."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_STEPS = """
import ctypes, json, resource, sys
from autofit.worker.rank import heap
from autofit.worker.rank.memory_meter import CpuMeter

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
SIZE, ROUNDS = 8 * 2**20, 10

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(ROUNDS):
        block = libc.malloc(ctypes.c_size_t(SIZE))
        ctypes.memset(block, 1, SIZE)
        libc.free(ctypes.c_void_p(block))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

heap.give_back_at_once()
meter = CpuMeter()
exact = faults()
needed_bytes = meter.peak_device_bytes()
meter.keep_freed(*map(int, sys.argv[1:]))
kept = faults()
meter.mark()
meter.give_back()
again = faults()
print(json.dumps([exact, kept, again, needed_bytes, meter.base_bytes, meter.peak_device_bytes()]))
"""
BLOCK_BYTES = 8 * 2**20
CLEARED = 10 * BLOCK_BYTES // 4096  # each block anew, in each round


def played(room_bytes: int, probed_bytes: int = 0) -> list[int]:
    words = [sys.executable, "-c", _STEPS, str(room_bytes), str(probed_bytes)]
    told: list[int] = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    return told


@pytest.fixture(scope="module")
def roomy() -> list[int]:
    return played(10**12)


def test_with_room_nothing_is_cleared_twice_until_memory_is_measured_again(roomy: list[int]) -> None:
    exact, kept, again, *_ = roomy
    assert exact >= CLEARED
    assert kept < CLEARED // 100  # the first block was there, too: it was cleared before any step was timed
    assert again >= CLEARED


def test_what_the_heap_kept_is_in_no_peak(roomy: list[int]) -> None:
    *_, needed_bytes, base_bytes, peak_bytes = roomy
    assert base_bytes + 0.9 * BLOCK_BYTES < needed_bytes <= peak_bytes < needed_bytes + BLOCK_BYTES // 2


def test_without_room_for_what_it_would_hold_it_stays_exact(roomy: list[int]) -> None:
    """Room for what was needed, and not for as much again."""
    needed_bytes = roomy[3]
    _, kept, *_ = played(needed_bytes + BLOCK_BYTES // 2)
    assert kept >= CLEARED


def test_it_stays_exact_where_the_probe_held_more_than_the_first_steps(roomy: list[int]) -> None:
    """Room for as much again as was needed until now, and not for what the long row will need that comes late."""
    needed_bytes = roomy[3]
    room_bytes = needed_bytes + 100 * BLOCK_BYTES
    assert played(room_bytes)[1] < CLEARED // 100
    assert played(room_bytes, needed_bytes + 60 * BLOCK_BYTES)[1] >= CLEARED

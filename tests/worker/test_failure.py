"""What each library's words for its failures come to; the messages are those that were seen."""

from __future__ import annotations

import pytest
import torch

from autofit.domain.outcome import Phase, Place
from autofit.probing.protocol import FailureKind
from autofit.worker.failure import rank_failed

CPU_ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 33423360 bytes. Error code 12 (Cannot allocate memory)"
)
CUDA_ALLOCATOR = "CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 79.15 GiB"


@pytest.mark.parametrize(
    ("error", "on_cpu", "kind", "place", "requested_bytes"),
    [
        (RuntimeError(CPU_ALLOCATOR), True, FailureKind.OUT_OF_MEMORY, Place.DEVICE, 33423360),
        (RuntimeError(CPU_ALLOCATOR), False, FailureKind.OUT_OF_MEMORY, Place.HOST, 33423360),
        (torch.OutOfMemoryError(CUDA_ALLOCATOR), False, FailureKind.OUT_OF_MEMORY, Place.DEVICE, 3 * 2**29),
        (RuntimeError("CUDA error: out of memory"), False, FailureKind.OUT_OF_MEMORY, Place.DEVICE, None),
        (
            RuntimeError("CUDA error: out of memory (cudaHostAlloc)"),
            False,
            FailureKind.OUT_OF_MEMORY,
            Place.HOST,
            None,
        ),
        (MemoryError(), True, FailureKind.OUT_OF_MEMORY, Place.DEVICE, None),
        (OSError(12, "Cannot allocate memory"), False, FailureKind.OUT_OF_MEMORY, Place.HOST, None),
        (RuntimeError("could not create a primitive"), True, FailureKind.OUT_OF_MEMORY, Place.DEVICE, None),
        (RuntimeError("can't start new thread"), True, FailureKind.OUT_OF_MEMORY, Place.DEVICE, None),
        (ValueError("Target modules {'x'} not found"), True, FailureKind.UNSUPPORTED, Place.DEVICE, None),
        (ImportError("flash_attn seems to be not installed"), False, FailureKind.UNSUPPORTED, Place.DEVICE, None),
        (RuntimeError("Connection closed by peer"), True, FailureKind.CRASHED, Place.DEVICE, None),
        (AssertionError("zero stage"), True, FailureKind.CRASHED, Place.DEVICE, None),
    ],
)
def test_an_exception_is_translated(
    error: Exception, on_cpu: bool, kind: FailureKind, place: Place, requested_bytes: int | None
) -> None:
    report = rank_failed(error, Phase.STEP, on_cpu=on_cpu, peak_bytes=5)
    assert (report.kind, report.place, report.requested_bytes) == (kind, place, requested_bytes)
    assert (report.phase, report.peak_bytes) == (Phase.STEP, 5)
    assert "\n" not in report.message


def test_a_real_allocation_beyond_all_memory_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**46, dtype=torch.uint8)
    assert rank_failed(caught.value, Phase.BUILD, on_cpu=True, peak_bytes=None).requested_bytes == 2**46

"""Whether an exception says that memory ran out, and whose; told by the words of whoever raised it."""

from __future__ import annotations

import errno
import linecache
import re
import sys
import traceback
from enum import Enum, auto
from types import TracebackType

from autofit.domain.outcome import Place

_ROOM_BYTES = 2**30
"""A device with as much free is not short of memory: a library's handle or a communicator's buffer takes less."""


class _Meaning(Enum):
    DEVICE = auto()
    HOST = auto()
    DRIVER = auto()  # the device's memory, or host memory that was to be pinned: the driver has one word for both
    DEVICE_UNLESS_ROOM = auto()  # an allocation that failed, for whatever reason
    DEVICE_IF_SHORT = auto()  # a handle that was not made, for whatever reason
    NOT_MEMORY = auto()  # it sounds like memory, and a smaller configuration does not mend it


# The first that matches counts. Each has the file that says so.
_TEXTS: tuple[tuple[str, _Meaning], ...] = (
    # triton/runtime/errors.py, OutOfResources: shared memory or registers of one multiprocessor, for one kernel
    (r"out of resource: ", _Meaning.NOT_MEMORY),
    # nccl/src/misc/ibvwrap.cc, "Call to ibv_create_cq failed with error Cannot allocate memory": `ulimit -l`
    (r"Call to ibv_\w+ failed", _Meaning.NOT_MEMORY),
    # nccl/src/include/alloc.h
    (r"Failed to CUDA host alloc|Failed to malloc \d+ bytes", _Meaning.HOST),
    (r"Failed to CUDA (malloc|calloc)", _Meaning.DEVICE_UNLESS_ROOM),
    # nccl/src/include/checks.h and cudawrap.h; the number is not in all of them
    (r"Cuda failure (\d+ )?'out of memory'", _Meaning.DEVICE),
    # torch: c10/cuda/CUDACachingAllocator.cpp, also within the words of another exception
    (r"CUDA out of memory", _Meaning.DEVICE),
    # The same file, where NVML does not say who holds the memory (a MIG slice, a container): pytorch issue 112377
    (r"NVML_SUCCESS == .* INTERNAL ASSERT FAILED at .*CUDACachingAllocator", _Meaning.DEVICE),
    # triton/third_party/nvidia/backend/driver.c: it loads kernels beside torch's allocator
    (r"Triton Error \[CUDA\]: out of memory", _Meaning.DEVICE),
    # thrust/system/cuda/detail/malloc_and_free.h; it begins with C++'s bad_alloc
    (r"cudaErrorMemoryAllocation: out of memory", _Meaning.DEVICE),
    # cublas_api.h, cusolver_common.h, cusparse.h, cufft.h and cudnn 8: "usually caused by a cudaMalloc() failure"
    (r"CU(BLAS|SOLVER|SPARSE|DNN)_STATUS_ALLOC_FAILED|CUFFT_ALLOC_FAILED", _Meaning.DEVICE),
    # cudnn_graph.h of cudnn 9
    (r"CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", _Meaning.DEVICE),
    (r"CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED", _Meaning.HOST),
    # cublasCreate on a full device says this, and so does one after a kernel has broken the context
    (r"CU(BLAS|SOLVER|DNN)_STATUS_NOT_INITIALIZED", _Meaning.DEVICE_IF_SHORT),
    # torch: c10/cuda/CUDAException.cpp, c10/cuda/driver_api.h, torch/cuda/__init__.py
    (r"CUDA error: out of memory|CUDA driver error: out of memory|^CudaError: out of memory", _Meaning.DRIVER),
    # torch: c10/core/impl/alloc_cpu.cpp, ATen/MapAllocator.cpp; errno ENOMEM; C++'s and numpy's words
    (r"can't allocate memory|Cannot allocate memory|bad_alloc|Unable to allocate", _Meaning.HOST),
    # oneDNN, which has no room for a kernel that it compiles; a thread's stack that found no memory
    (r"could not create a primitive|start new thread", _Meaning.HOST),
)
_PATTERNS = tuple((re.compile(words), meaning) for words, meaning in _TEXTS)

# A failed cudaHostAlloc reads like a full device (ATen/cuda/CachingHostAllocator.cpp): it is known by who called.
_PINNING = re.compile("cudaHostAlloc|cudaHostRegister|cudaMallocHost|pin_memory|pin_empty|pin memory thread")


def lacking_place(error: BaseException, text: str, *, is_on_cpu: bool, free_device_bytes: int | None) -> Place | None:
    """The place whose memory `error` lacked, None when it lacked none; `text` are its words on one line, with its type.

    `free_device_bytes` is what the driver had left when it was raised, None where that is not known. On a CPU the
    host's memory is the device.
    """
    if type(error).__name__ == "OutOfMemoryError":
        return Place.DEVICE
    is_host = isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    place = Place.HOST if is_host else _told_place(error, text, free_device_bytes)
    return Place.DEVICE if is_on_cpu and place is Place.HOST else place


def _told_place(error: BaseException, text: str, free_device_bytes: int | None) -> Place | None:
    has_room = free_device_bytes is not None and free_device_bytes >= _ROOM_BYTES
    match _meaning(text):
        case _Meaning.DEVICE:
            return Place.DEVICE
        case _Meaning.HOST:
            return Place.HOST if isinstance(error, (RuntimeError, OSError)) else None
        case _Meaning.DRIVER:
            return Place.HOST if has_room or _is_pinning(error, text) else Place.DEVICE
        case _Meaning.DEVICE_UNLESS_ROOM:
            return None if has_room else Place.DEVICE
        case _Meaning.DEVICE_IF_SHORT:
            return None if has_room or free_device_bytes is None else Place.DEVICE
        case _:
            return None


def free_device_bytes() -> int | None:
    """What the driver has left on this rank's GPU; None where there is none, or where it does not answer any more."""
    torch = sys.modules.get("torch")  # this runs while an exception is handled, which may be that of its import
    if torch is None or not torch.cuda.is_initialized():
        return None
    try:
        return int(torch.cuda.mem_get_info()[0])
    except RuntimeError:  # the exception that is handled has broken the context
        return None


def _meaning(text: str) -> _Meaning | None:
    return next((meaning for pattern, meaning in _PATTERNS if pattern.search(text)), None)


def _is_pinning(error: BaseException, text: str) -> bool:
    """Whether host memory was being pinned: by its words, its callers' names, or the line that raised it."""
    frames = list(traceback.walk_tb(error.__traceback__))
    names = " ".join(frame.f_code.co_name for frame, _ in frames)
    return any(map(_PINNING.search, (text, names, _last_line(error.__traceback__))))


def _last_line(trace: TracebackType | None) -> str:
    """The source text of the innermost call, all lines of it from Python 3.11 on."""
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    call = traceback.extract_tb(trace)[0]
    first = call.lineno or 0
    last = getattr(call, "end_lineno", None) or first
    return " ".join(linecache.getline(call.filename, number) for number in range(first, last + 1))

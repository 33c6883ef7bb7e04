"""What each library's words for its failures come to; each text is as it was seen, or as the named file builds it."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch._utils import ExceptionWrapper
from torch.utils.data._utils.pin_memory import pin_memory

from autofit.domain.outcome import Phase, Place
from autofit.probing.protocol import FailureKind, RankFailed
from autofit.worker.rank.failure import rank_failed
from autofit.worker.rank.out_of_memory import free_device_bytes

FULL_BYTES, ROOMY_BYTES = 200 * 2**20, 20 * 2**30

# c10/core/impl/alloc_cpu.cpp
CPU_ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 33423360 bytes. Error code 12 (Cannot allocate memory)"
)
# c10/cuda/CUDACachingAllocator.cpp
CUDA_ALLOCATOR = (
    "CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has a total capacity of 79.15 GiB of which 1.24 GiB is "
    "free. Including non-PyTorch memory, this process has 77.90 GiB memory in use. Of the allocated memory 76.40 GiB "
    "is allocated by PyTorch, and 312.10 MiB is reserved by PyTorch but unallocated. If reserved but unallocated "
    "memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)
# c10/cuda/CUDAException.cpp and CUDAMiscFunctions.cpp; torch.AcceleratorError since torch 2.8
CUDA_ERROR = (
    "CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in https://docs.nvidia.com/cuda/"
    "cuda-runtime-api/group__CUDART__TYPES.html for more information.\nCUDA kernel errors might be asynchronously "
    "reported at some other API call, so the stacktrace below might be incorrect.\nFor debugging consider passing "
    "CUDA_LAUNCH_BLOCKING=1\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
)
# The same as CUDA_ALLOCATOR where NVML does not answer: pytorch issues 112377 and 122068 (containers, MIG slices)
NO_NVML = (
    'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "../c10/cuda/CUDACachingAllocator.cpp":830, please report a bug to '
    "PyTorch. "
)
BUS_ERROR = (
    "DataLoader worker (pid 4711) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
    "shared memory. Please try to raise your shared memory limit."
)
NCCL_SEGMENT = (
    "Error while creating shared memory segment /dev/shm/nccl-cj (size 10617216), error: No space left on device (28)"
)
CUBLAS_HANDLE = "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"


def cuda(words: str) -> Exception:
    """As c10/cuda/CUDAException.cpp raises the runtime's words."""
    return torch.AcceleratorError(f"CUDA error: {words}")


def nccl(last: str) -> Exception:
    """As torch/csrc/distributed/c10d/NCCLUtils.cpp tells NCCL's last words; pytorch issue 170045."""
    return torch.distributed.DistBackendError(
        "NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:94, unhandled cuda error (run with "
        "NCCL_DEBUG=INFO for details), NCCL version 2.28.9\nncclUnhandledCudaError: Call to CUDA function failed.\n"
        f"Last error:\n{last}"
    )


class OutOfResources(Exception):
    """triton/runtime/errors.py; Triton is not there on a CPU."""

    def __str__(self) -> str:
        return (
            "out of resource: shared memory, Required: 147456, Hardware limit: 101376. "
            "Reducing block sizes or `num_stages` may help."
        )


class CudaError(RuntimeError):
    """torch/cuda/__init__.py, for a call of the runtime's own functions; torch's asks a driver for the words."""


def failed(error: BaseException, *, is_on_cpu: bool = False, free_bytes: int | None = None) -> RankFailed:
    return rank_failed(error, Phase.STEP, is_on_cpu=is_on_cpu, peak_bytes=5, free_device_bytes=free_bytes)


Meant = tuple[FailureKind, Place]
DEVICE = (FailureKind.OUT_OF_MEMORY, Place.DEVICE)
HOST = (FailureKind.OUT_OF_MEMORY, Place.HOST)
CRASHED = (FailureKind.CRASHED, Place.DEVICE)
LOST_NEIGHBOUR = (FailureKind.LOST_NEIGHBOUR, Place.DEVICE)
UNSUPPORTED = (FailureKind.UNSUPPORTED, Place.DEVICE)


@pytest.mark.parametrize(
    ("error", "is_on_cpu", "kind", "place", "requested_bytes"),
    [
        (RuntimeError(CPU_ALLOCATOR), True, *DEVICE, 33423360),
        (RuntimeError(CPU_ALLOCATOR), False, *HOST, 33423360),
        (torch.OutOfMemoryError(CUDA_ALLOCATOR), False, *DEVICE, 3 * 2**29),
        (RuntimeError("CUDA error: out of memory"), False, *DEVICE, None),
        (RuntimeError("CUDA error: out of memory (cudaHostAlloc)"), False, *HOST, None),
        (MemoryError(), True, *DEVICE, None),
        (MemoryError(), False, *HOST, None),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), False, *HOST, None),
        (RuntimeError("could not create a primitive"), True, *DEVICE, None),
        (RuntimeError("can't start new thread"), True, *DEVICE, None),
        (ValueError("Target modules {'x'} not found"), True, *UNSUPPORTED, None),
        (ImportError("flash_attn seems to be not installed"), False, *UNSUPPORTED, None),
        # csrc/flash_attn/flash_api.cpp
        (RuntimeError("FlashAttention forward only supports head dimension at most 256"), False, *UNSUPPORTED, None),
        (RuntimeError("Connection closed by peer"), True, *LOST_NEIGHBOUR, None),
        (OSError("Connection reset by peer"), True, *CRASHED, None),
        (AssertionError("zero stage"), True, *CRASHED, None),
    ],
)
def test_an_exception_is_translated(
    error: Exception, is_on_cpu: bool, kind: FailureKind, place: Place, requested_bytes: int | None
) -> None:
    report = failed(error, is_on_cpu=is_on_cpu)
    assert (report.kind, report.place, report.requested_bytes) == (kind, place, requested_bytes)
    assert (report.phase, report.peak_bytes) == (Phase.STEP, 5)
    assert "\n" not in report.message


# By whose words: the error (a text is a RuntimeError's), what the driver had left where that counts, and what it means.
GPU_ERRORS: dict[str, tuple[Exception | str, int | None, Meant]] = {
    "torch's allocator": (torch.OutOfMemoryError(CUDA_ALLOCATOR), None, DEVICE),
    "torch's allocator in another's words": (f"backend='inductor' raised: {CUDA_ALLOCATOR}", None, DEVICE),
    "torch's allocator without NVML": (NO_NVML, None, DEVICE),
    "the runtime": (torch.AcceleratorError(CUDA_ERROR), None, DEVICE),
    "the runtime on a full device": (torch.AcceleratorError(CUDA_ERROR), FULL_BYTES, DEVICE),
    "the runtime on a roomy device": (torch.AcceleratorError(CUDA_ERROR), ROOMY_BYTES, HOST),  # .to("cpu") pins, too
    "the runtime as torch once raised it": (CUDA_ERROR, None, DEVICE),
    "a call of the runtime": (CudaError("out of memory (2)"), FULL_BYTES, DEVICE),
    # c10/cuda/driver_api.h
    "the driver": ("CUDA driver error: out of memory", FULL_BYTES, DEVICE),
    "thrust": ("std::bad_alloc: cudaErrorMemoryAllocation: out of memory", None, DEVICE),
    # NCCL: src/include/cudawrap.h and checks.h
    "NCCL's check": (nccl("Cuda failure 2 'out of memory'"), None, DEVICE),
    "NCCL's check without a number": (nccl("Cuda failure 'out of memory'"), None, DEVICE),
    "NCCL about another error": (nccl("Cuda failure 700 'an illegal memory access was encountered'"), None, CRASHED),
    # NCCL: src/include/alloc.h; the third as in DeepSpeed issue 3827. 8 bytes do not fail for want of memory.
    "NCCL's malloc": (nccl("Failed to CUDA malloc 4194304 bytes"), FULL_BYTES, DEVICE),
    "NCCL's calloc": (nccl("Failed to CUDA calloc 10485760 bytes"), None, DEVICE),
    "NCCL's calloc on a stream": (nccl("Failed to CUDA calloc async 1920 bytes"), FULL_BYTES, DEVICE),
    "NCCL's calloc on a roomy device": (nccl("Failed to CUDA calloc async 8 bytes"), ROOMY_BYTES, CRASHED),
    "NCCL's pinned calloc": (nccl("Failed to CUDA host alloc 33554432 bytes"), FULL_BYTES, HOST),
    "NCCL's malloc on the host": (nccl("Failed to malloc 9216 bytes"), None, HOST),
    # NCCL: src/misc/ibvwrap.cc, for the limit of locked memory, as in DeepEP issue 143; src/misc/shmutils.cc
    "NCCL's InfiniBand": (nccl("Call to ibv_create_cq failed with error Cannot allocate memory"), None, CRASHED),
    "NCCL's shared memory": (nccl(NCCL_SEGMENT), None, CRASHED),
    # Triton: third_party/nvidia/backend/driver.c
    "Triton's driver": ("Triton Error [CUDA]: out of memory", None, DEVICE),
    "Triton's driver about a kernel": ("Triton Error [CUDA]: device kernel image is invalid", None, UNSUPPORTED),
    "Triton's kernel": (OutOfResources(), FULL_BYTES, UNSUPPORTED),
    "a kernel of another device": (
        cuda("no kernel image is available for execution on the device"),
        None,
        UNSUPPORTED,
    ),
    "a kernel with too many registers": (cuda("too many resources requested for launch"), FULL_BYTES, UNSUPPORTED),
    "a wild kernel": (cuda("an illegal memory access was encountered"), FULL_BYTES, CRASHED),
    # ATen/cuda/Exceptions.h with the names of CUDA's libraries; ATen/native/cuda/CuFFTUtils.h
    "cuBLAS": ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", None, DEVICE),
    "cuBLAS on a full device": (CUBLAS_HANDLE, FULL_BYTES, DEVICE),
    "cuBLAS on a roomy device": (CUBLAS_HANDLE, ROOMY_BYTES, CRASHED),
    "cuBLAS on a device that does not answer": (CUBLAS_HANDLE, None, CRASHED),
    "cuSOLVER": (
        "cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`",
        None,
        DEVICE,
    ),
    "cuDNN 8": ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", None, DEVICE),
    "cuDNN 9": ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", None, DEVICE),
    "cuDNN 9 on the host": ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED", None, HOST),
    "cuDNN on a full device": ("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED", FULL_BYTES, DEVICE),
    "cuFFT": ("cuFFT error: CUFFT_ALLOC_FAILED", None, DEVICE),
    # ATen/MapAllocator.cpp, torch/csrc/DataLoader.cpp
    "a file that is mapped": ("unable to mmap 12582912 bytes from file </w>: Cannot allocate memory (12)", None, HOST),
    "torch's shared memory": ("unable to write to file </torch_4711_0>: No space left on device (28)", None, CRASHED),
    "a loader's shared memory": (BUS_ERROR, None, CRASHED),
    "the kernel about a disk": (OSError(errno.ENOSPC, "No space left on device"), FULL_BYTES, CRASHED),
}


@pytest.mark.parametrize("name", GPU_ERRORS)
def test_what_is_said_on_a_gpu(name: str) -> None:
    error, free_bytes, meant = GPU_ERRORS[name]
    report = failed(RuntimeError(error) if isinstance(error, str) else error, free_bytes=free_bytes)
    assert (report.kind, report.place) == meant


# --- host memory that was to be pinned: the driver says the same as of a full device -------------------------------


class Batch:
    """Of which the first part cannot be pinned."""

    def pin_memory(self) -> None:
        raise torch.AcceleratorError(CUDA_ERROR)


def test_a_batch_that_cannot_be_pinned() -> None:
    with pytest.raises(torch.AcceleratorError) as caught:
        pin_memory([Batch()])  # torch's own, which a data loader calls
    report = failed(caught.value, free_bytes=FULL_BYTES)
    assert (report.kind, report.place) == HOST


def test_a_batch_that_a_loaders_thread_cannot_pin() -> None:
    """The cause stands behind a traceback that is longer than what a report keeps."""
    try:
        pin_memory([[[[[[[[Batch()]]]]]]]])
    except torch.AcceleratorError:
        caught = ExceptionWrapper(where="in pin memory thread for device 0")
    with pytest.raises(torch.AcceleratorError) as again:
        caught.reraise()
    assert " ".join(str(again.value).split()).index("CUDA error") > 600
    report = failed(again.value, free_bytes=FULL_BYTES)
    assert (report.kind, report.place) == HOST
    assert len(report.message) == 600


def pinned() -> None:
    torch.empty(-1, pin_memory=True)


def pinned_over_several_lines() -> None:
    torch.empty(
        -1,
        pin_memory=True,
    )


def not_pinned() -> None:
    torch.empty(-1)


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (pinned, HOST),
        pytest.param(
            pinned_over_several_lines,
            HOST,
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not say where a call ends"),
        ),
        (not_pinned, DEVICE),
    ],
)
def test_a_tensor_that_cannot_be_pinned(call: Callable[[], None], meant: Meant) -> None:
    """torch raises it in C++, right under the line of the call: here for another reason, at the same place."""
    with pytest.raises(RuntimeError) as caught:
        call()
    error = torch.AcceleratorError(CUDA_ERROR).with_traceback(caught.value.__traceback__)
    report = failed(error, free_bytes=FULL_BYTES)
    assert (report.kind, report.place) == meant


def test_a_buffer_that_deepspeed_cannot_pin() -> None:
    """The words are put in the place of another error, raised in C++ under DeepSpeed's own frame."""
    from deepspeed.accelerator.abstract_accelerator import DeepSpeedAccelerator

    buffer = SimpleNamespace(pin_memory=partial(torch.empty, -1))
    with pytest.raises(RuntimeError, match="negative dimension") as caught:
        DeepSpeedAccelerator._torch_pin_memory(None, buffer)
    error = torch.AcceleratorError(CUDA_ERROR).with_traceback(caught.value.__traceback__)
    report = failed(error, free_bytes=FULL_BYTES)
    assert (report.kind, report.place) == HOST


# --- what the driver has left -------------------------------------------------------------------------------------


def test_a_device_that_is_not_in_use_tells_nothing() -> None:
    assert free_device_bytes() is None


def test_what_a_device_has_left_is_told_as_long_as_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (FULL_BYTES, ROOMY_BYTES))
    assert free_device_bytes() == FULL_BYTES

    def broken() -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "mem_get_info", broken)
    assert free_device_bytes() is None


def test_a_real_allocation_beyond_all_memory_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**46, dtype=torch.uint8)
    assert failed(caught.value, is_on_cpu=True).requested_bytes == 2**46


def test_a_secret_that_an_error_quotes_is_in_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_marked")
    error = OSError("GET http://me:marked@proxy:1/ with Bearer hf_marked failed")
    report = rank_failed(error, Phase.BUILD, is_on_cpu=True, peak_bytes=None)
    assert report.message == "OSError: GET http://proxy:1/ with Bearer *** failed"

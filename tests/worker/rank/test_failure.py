"""What each library's words for its failures come to; each text is as it was seen, or as the named file builds it."""

from __future__ import annotations

import errno
import json
import runpy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jinja2
import pytest
import torch
from torch._utils import ExceptionWrapper
from torch.utils.data._utils.pin_memory import pin_memory

from autofit.domain.errors import InternalError, UsageError
from autofit.domain.outcome import Phase, Place
from autofit.probing.protocol import FailureKind, RankFailed
from autofit.worker.rank.failure import rank_failed
from autofit.worker.rank.full_disk import full_disk
from autofit.worker.rank.lost_device import lost_xid
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
SHARED = (FailureKind.OUT_OF_MEMORY, Place.SHARED)
DISK = (FailureKind.DISK_FULL, Place.DEVICE)
LOST_DEVICE = (FailureKind.DEVICE_LOST, Place.DEVICE)
USER = (FailureKind.USER_FAULT, Place.DEVICE)
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
    "NCCL's shared memory": (nccl(NCCL_SEGMENT), None, SHARED),
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
    # driver_types.h by cudaGetErrorString, c10/cuda/CUDAFunctions.cpp, nvml.h
    "an ECC error": (cuda("uncorrectable ECC error encountered"), FULL_BYTES, LOST_DEVICE),
    "an ECC error in NCCL": (nccl("Cuda failure 214 'uncorrectable ECC error encountered'"), None, LOST_DEVICE),
    "no device any more": ("No CUDA GPUs are available", None, LOST_DEVICE),
    "NVML's last words": ("NVMLError_GpuIsLost: GPU is lost", None, LOST_DEVICE),
    "an assertion on the device": (cuda("device-side assert triggered"), FULL_BYTES, CRASHED),
    "a launch that failed": (cuda("unspecified launch failure"), FULL_BYTES, CRASHED),
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
    "torch's shared memory": ("unable to write to file </torch_4711_0>: No space left on device (28)", None, SHARED),
    "a loader's shared memory": (BUS_ERROR, None, SHARED),
    "the kernel about a disk": (OSError(errno.ENOSPC, "No space left on device"), FULL_BYTES, DISK),
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


# --- disks, the user's own errors, and where an error was raised -----------------------------------


class SafetensorError(Exception):
    """safetensors/bindings/python/src/lib.rs has no errno."""


def raised(*, first: Exception, then: Exception | None = None) -> Exception:
    """`first`, or `then` as it was raised while `first` was handled."""
    try:
        try:
            raise first
        except Exception:
            if then is None:
                raise
            raise then  # noqa: B904
    except Exception as error:
        return error


# caffe2/serialize/inline_container.cc: the second is what its destructor finds after the first
TORCH_SAVE = (
    "[enforce fail at inline_container.cc:672] . PytorchStreamWriter failed writing file data/0: file write failed"
)
TORCH_SAVE_THEN = "[enforce fail at inline_container.cc:815] . unexpected pos 576 vs 470"


@pytest.mark.parametrize(
    ("error", "kind", "place"),
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded"), *DISK),
        (OSError(errno.EFBIG, "File too large"), *DISK),
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), *DISK),
        (RuntimeError(TORCH_SAVE), *DISK),
        (raised(first=RuntimeError(TORCH_SAVE), then=RuntimeError(TORCH_SAVE_THEN)), *DISK),
        (raised(first=OSError(errno.ENOSPC, "No space left on device"), then=KeyError("x")), *DISK),
        (raised(first=OSError(errno.ENOSPC, "No space left"), then=torch.OutOfMemoryError(CUDA_ALLOCATOR)), *DEVICE),
        (OSError(errno.ENOSPC, "No space left on device", "/dev/shm/sem.mp-x"), *SHARED),
        (OSError(errno.EACCES, "Permission denied"), *CRASHED),
    ],
)
def test_a_full_disk_is_told_by_its_errno_else_by_its_words(error: Exception, kind: FailureKind, place: Place) -> None:
    report = failed(error)
    assert (report.kind, report.place) == (kind, place)


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    report = failed(OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "model")))
    assert report.message.startswith(f"No space left on device: {tmp_path / 'model'}, ")
    assert report.message.endswith(" free there")


def xid_log(folder: Path, number: int, at_s: float) -> Path:
    """As /dev/kmsg has it (kernel: Documentation/ABI/testing/dev-kmsg)."""
    log = folder / "kmsg"
    log.write_text(
        f"6,1,{int(at_s * 1e6)},-;usb 1-1: new device\n"
        f"4,2,{int(at_s * 1e6)},-;NVRM: Xid (PCI:0000:3b:00): {number}, pid=4711, GPU has fallen off the bus.\n"
    )
    return log


@pytest.mark.parametrize(
    ("words", "number", "age_s", "found"),
    [
        ("CUDA error: unspecified launch failure", 79, 5.0, (True, 79)),
        ("CUDA error: an illegal memory access was encountered", 94, 5.0, (True, 94)),
        ("CUDA error: an illegal memory access was encountered", 31, 5.0, (False, None)),  # a kernel's own fault
        ("CUDA error: unspecified launch failure", 79, 4000.0, (False, None)),
        ("CUDA error: uncorrectable ECC error encountered", 48, 5.0, (True, 48)),
        ("CUDA error: device-side assert triggered", 79, 5.0, (False, None)),
    ],
)
def test_an_xid_tells_whether_the_device_was_lost(
    tmp_path: Path, words: str, number: int, age_s: float, found: tuple[bool, int | None]
) -> None:
    assert lost_xid(words, 5000.0, xid_log(tmp_path, number, 5000.0 - age_s)) == found


def test_a_kernel_log_that_nobody_may_read_says_nothing(tmp_path: Path) -> None:
    assert lost_xid("GPU is lost", 5000.0, tmp_path / "none") == (True, None)
    assert lost_xid("CUDA error: unspecified launch failure", 5000.0, tmp_path / "none") == (False, None)


def test_what_is_the_users_own_is_shown_as_it_is() -> None:
    assert failed(UsageError("chats.jsonl, line 3: no answer")).message == "chats.jsonl, line 3: no answer"
    refused = failed(jinja2.TemplateError("roles must alternate"))
    assert (refused.kind, refused.message) == (FailureKind.USER_FAULT, "TemplateError: roles must alternate")
    assert failed(InternalError("no such phase")).kind is FailureKind.CRASHED


@pytest.mark.parametrize("kind", [KeyError, ValueError])
def test_a_script_is_to_blame_for_what_its_own_lines_raise(tmp_path: Path, kind: type[Exception]) -> None:
    """Of autofit's own training there is no such line: a ValueError there is what a library does not support."""
    script = tmp_path / "train.py"
    script.write_text(f"\n\nraise {kind.__name__}('no column text')\n")
    with pytest.raises(kind) as found:
        runpy.run_path(str(script))
    report = rank_failed(found.value, Phase.BUILD, is_on_cpu=True, peak_bytes=None, is_script=True)
    assert report.kind is FailureKind.USER_FAULT
    assert report.message.startswith(kind.__name__)
    assert "no column text" in report.message
    assert report.message.endswith("/train.py:3)")
    assert failed(found.value).kind is not FailureKind.USER_FAULT


def test_a_crash_says_where_it_was_raised_and_whether_that_is_our_code() -> None:
    with pytest.raises(TypeError) as found:
        full_disk(ValueError(), None)  # type: ignore[arg-type]
    assert failed(found.value).is_ours
    assert "autofit/worker/rank/full_disk.py:" in failed(found.value).message
    with pytest.raises(TypeError) as found:
        json.loads(3)  # type: ignore[arg-type]
    assert not failed(found.value).is_ours
    assert "json/__init__.py:" in failed(found.value).message


def test_a_secret_that_an_error_quotes_is_in_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_marked")
    error = OSError("GET http://me:marked@proxy:1/ with Bearer hf_marked failed")
    report = rank_failed(error, Phase.BUILD, is_on_cpu=True, peak_bytes=None)
    assert report.message.startswith("OSError: GET http://proxy:1/ with Bearer *** failed")
    assert "marked" not in report.message

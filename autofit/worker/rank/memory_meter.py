"""How much memory a rank holds and how much it may hold: one meter a device kind.

On a CPU the rank's own anonymous memory stands for the device's memory.
"""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Protocol

from autofit.planning.memory.cpu_heap import quick_up_to_bytes
from autofit.worker.rank import heap
from autofit.worker.rank.device import DriverMemory, override_deepspeed_memory, own_device_name

# What may be reserved between two looks without being used: a thread's stack, the end of a heap.
_SLACK_BYTES = 8 * 2**20


class Meter(Protocol):
    """A meter of one rank's bytes. `cap` limits them for real: beyond it an allocation fails as on a full device."""

    base_bytes: int  # held beside the tensors: the runtime, on a CPU before the model is built

    def cap(self, limit_bytes: int) -> None: ...

    def mark(self) -> None:
        """Ends a phase: what peaked since the last mark is kept."""

    def keep_freed(self, room_bytes: int, probed_bytes: int = 0) -> None:
        """Ends the steps that show what memory is needed: from here on the host's heap may keep what is freed, where
        that fits into the `room_bytes` that the rank may hold.

        Of a full run `probed_bytes` are what its probe held: its own first steps may have seen no long row yet.
        """

    def give_back(self) -> None:
        """Ends that: what the heap held more counts for no peak."""

    def peak_device_bytes(self) -> int: ...

    def peak_allocated_bytes(self) -> int | None:
        """What tensors held, without what the allocator lost between them; None where no allocator counts."""

    def peak_host_bytes(self) -> int: ...

    def alloc_retries(self) -> int: ...


class _ProcessMemory:
    """Peak anonymous memory of this process, from the kernel's high-water mark phase by phase.

    The mark (VmHWM) counts file pages too, which are taken off as they stand at the end of the phase: the peak errs
    low by the file pages that came after it, high by those that went, which is little once the libraries are loaded.
    """

    def __init__(self) -> None:
        self._peak_bytes = 0
        self.mark()

    def mark(self) -> None:
        status = _status()
        self._peak_bytes = max(self._peak_bytes, status["VmHWM"] - status["RssFile"] - status["RssShmem"])
        self.forget()

    def forget(self) -> None:
        """Begins a phase, and what peaked since the last one began is not kept."""
        Path("/proc/self/clear_refs").write_text("5")

    @property
    def peak_bytes(self) -> int:
        status = _status()
        return max(self._peak_bytes, status["VmHWM"] - status["RssFile"] - status["RssShmem"])


class CpuMeter:
    def __init__(self) -> None:
        self._process = _ProcessMemory()
        self._limit_bytes: int | None = None
        self._room_bytes: int | None = None  # while the heap keeps what is freed
        self.base_bytes = _status()["RssAnon"]

    def cap(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._set_limit()

    def mark(self) -> None:
        if self._room_bytes is None:
            self._process.mark()
        elif _status()["RssAnon"] > self._room_bytes:
            self.give_back()
        self._set_limit()

    def keep_freed(self, room_bytes: int, probed_bytes: int = 0) -> None:
        self._process.mark()
        peak_bytes, held_bytes = max(self._process.peak_bytes, probed_bytes), _status()["RssAnon"]
        if peak_bytes > quick_up_to_bytes(self.base_bytes, room_bytes):
            return
        self._room_bytes = room_bytes
        heap.keep_freed(max(0, peak_bytes - held_bytes))
        self._set_limit()

    def give_back(self) -> None:
        if self._room_bytes is not None:
            self._room_bytes = None
            heap.give_back()
            self._process.forget()

    def _set_limit(self) -> None:
        """Sets the limit. RLIMIT_DATA counts reserved memory, which is far more than what is used: set anew at each
        mark, it stops the growth of what is used at the cap."""
        if self._limit_bytes is None:
            return
        status = _status()
        allowed_bytes = status["VmData"] + max(0, self._limit_bytes - status["RssAnon"]) + _SLACK_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (allowed_bytes, resource.RLIM_INFINITY))

    def peak_device_bytes(self) -> int:
        return self._process.peak_bytes

    def peak_allocated_bytes(self) -> None:
        return None

    def peak_host_bytes(self) -> int:
        return self._process.peak_bytes

    def alloc_retries(self) -> int:
        return 0


class CudaMeter:
    """What the allocator reserved at most, and beside it what the driver says is taken since before this process.

    Reserved rather than allocated: what the allocator holds is what other processes cannot have. Beside it lie the
    context, the communicator's buffers, and kernels that are loaded when they are first needed: looked at at each mark,
    and the most of it is kept. What another process takes of the device meanwhile is counted with it.
    """

    def __init__(self, driver: DriverMemory | None = None) -> None:
        import torch

        self._cuda = torch.cuda
        self._device = int(os.environ.get("LOCAL_RANK", "0"))
        self._driver = driver or DriverMemory(own_device_name())
        self._used_before_bytes = self._driver.used_bytes()
        self._limit_bytes: int | None = None
        torch.cuda.set_device(self._device)
        torch.zeros(1, device="cuda")
        torch.cuda.synchronize()
        self.base_bytes = 0
        self._look()
        self._process = _ProcessMemory()

    def cap(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._set_limit()

    def mark(self) -> None:
        self._look()
        self._set_limit()
        self._process.mark()

    def keep_freed(self, room_bytes: int, probed_bytes: int = 0) -> None:
        """Nothing: the device's allocator keeps what is freed anyhow."""

    def give_back(self) -> None:
        """Nothing, likewise."""

    def _look(self) -> None:
        taken_bytes = self._driver.used_bytes() - self._used_before_bytes
        beside_bytes = taken_bytes - int(self._cuda.memory_reserved(self._device))
        self.base_bytes = max(self.base_bytes, beside_bytes)

    def _set_limit(self) -> None:
        """Limits the allocator to what is left beside the runtime, as on a card of that size."""
        if self._limit_bytes is None:
            return
        allowed_bytes = max(0, self._limit_bytes - self.base_bytes)
        total_bytes = self._cuda.mem_get_info(self._device)[1]
        self._cuda.set_per_process_memory_fraction(min(1.0, allowed_bytes / total_bytes), self._device)

    def available_bytes(self) -> int:
        """What is free on the device, and under the cap: what a card of the cap's size would have free."""
        free_bytes = int(self._cuda.mem_get_info(self._device)[0])
        if self._limit_bytes is None:
            return free_bytes
        reserved_bytes = int(self._cuda.memory_reserved(self._device))
        return max(0, min(free_bytes, self._limit_bytes - self.base_bytes - reserved_bytes))

    def peak_device_bytes(self) -> int:
        self._look()
        return self.base_bytes + int(self._cuda.max_memory_reserved(self._device))

    def peak_allocated_bytes(self) -> int:
        return int(self._cuda.max_memory_allocated(self._device))

    def peak_host_bytes(self) -> int:
        """The peak of host memory. Pinned memory is shared memory to the kernel, which the process's own figure leaves
        out. The two peaks may not have come together: at worst their sum is too high by the smaller."""
        return self._process.peak_bytes + int(self._cuda.host_memory_stats()["allocated_bytes.peak"])

    def alloc_retries(self) -> int:
        return int(self._cuda.memory_stats(self._device).get("num_alloc_retries", 0))


def meter(kind: str) -> Meter:
    """The meter of `cuda` or `cpu`; made before anything else of a rank, so that its base is the runtime's alone."""
    if kind != "cuda":
        return CpuMeter()
    made = CudaMeter()
    override_deepspeed_memory(made.available_bytes)
    return made


def _status() -> dict[str, int]:
    """The sizes in /proc/self/status, in bytes."""
    sizes = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, rest = line.partition(":")
        fields = rest.split()
        if len(fields) == 2 and fields[1] == "kB":
            sizes[name] = int(fields[0]) * 1024
    return sizes

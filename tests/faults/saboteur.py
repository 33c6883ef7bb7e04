"""What makes a process fail at the moment that a test has named. It is in every Python below the test, whose product
knows nothing of it.

A file holds the orders, a list of JSON: read at each moment that may be meant, so that a warm process takes the next
ones as well. They are carried out in turn. Who strikes says so in a file beside it, and strikes once, whoever goes on
afterwards.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import mmap
import os
import re
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import Enum
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

ORDER = "AUTOFIT_TEST_ORDER"  # the file of the orders
ROWS = "AUTOFIT_TEST_ROWS"  # a folder: each rank writes there which rows it has trained on
MARK = "AUTOFIT_TEST_MARK"  # in the environment of every process below a test, whoever adopts it
GROUP = "AUTOFIT_TEST_GROUP"  # the folder of the control group (v1, memory) that all of it is in
SAVING = "torch.save"
SURVEY = "survey"
_FULL_RUN = "autofit.worker.training.full_run.rank_training"  # what a probe does not import
_ROOM_BYTES = 4_000_000  # that is left of a squeezed rank's: with none at all native code dies of SIGSEGV
_BLOCK_BYTES = 500_000
_HOG_BYTES = 2**29
_FILE_BYTES = 200_000  # less than the weights of any model


class Action(str, Enum):
    """What is done to the process, or by it. Names of signals are sent to it."""

    SIGKILL = "SIGKILL"
    SIGTERM = "SIGTERM"
    SIGSEGV = "SIGSEGV"
    SIGABRT = "SIGABRT"
    SIGBUS = "SIGBUS"
    SIGSTOP = "SIGSTOP"
    SQUEEZE = "nearly all room to grow is taken"
    DEVICE_MEMORY = "the device's allocator finds nothing"
    HOST_MEMORY = "the host's allocator finds nothing"
    PYTHON_MEMORY = "Python's allocator finds nothing"
    SHARED_MEMORY = "/dev/shm is full"
    DISK_FULL = "the disk is full"
    QUOTA = "the quota is used up"
    FILE_LIMIT = "no file may grow any more"
    SAFETENSORS = "the disk is full for safetensors"
    ECC = "the device's memory cannot be trusted"
    DEVICE_LOST = "the device has left the bus"
    NOT_A_NUMBER = "the parameters are no numbers"
    UNSUPPORTED = "an operator is not implemented"
    BUG = "a bug of ours"
    HOG = "the kernel finds no memory for it"
    EXIT_3 = "exit code 3"
    EXIT_0 = "exit code 0 and no report"


@dataclass(frozen=True)
class Order:
    """Rank `rank` does `action` when it comes to `where` for the `entry`-th time, or its parents do, so many
    `generations` above it; of a full run alone, or of a probe as well."""

    action: Action
    where: str  # a phase, SAVING or SURVEY
    rank: int | None = None  # None: what has none
    entry: int = 1
    generations: int = 0
    is_of_full_run: bool = False


def write_orders(path: Path, *orders: Order) -> None:
    """Gives the orders; they may have been carried out before."""
    for number in range(len(orders)):
        struck_path(path, number).unlink(missing_ok=True)
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps([asdict(order) for order in orders]))
    partial.replace(path)


@dataclass(frozen=True)
class Struck:
    at_s: float  # time.time()
    pids: tuple[int, ...]  # of all that carry the mark, just before
    port: int | None  # at which its ranks have met


def struck_path(orders: Path, number: int = 0) -> Path:
    return orders.with_suffix(f".struck{number}")


def read_struck(orders: Path, number: int = 0) -> Struck | None:
    """What the order of that number has struck, and when; None while it has not been carried out."""
    try:
        text = struck_path(orders, number).read_text()
    except FileNotFoundError:
        return None
    return Struck(**json.loads(text)) if text else None


def marked(mark: str) -> tuple[int, ...]:
    """The processes that were started under `mark`."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(PermissionError, FileNotFoundError, ProcessLookupError):  # another user's, or it has ended
            if wanted in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
    return tuple(found)


def lie_in_wait() -> None:
    """Has this process come by here at each of the moments that an order may name."""
    if ORDER not in os.environ:
        return
    wraps = {"autofit.worker.rank.lifecycle": _watch_ranks, "torch.serialization": _watch_saves}
    wraps["autofit.worker.data.training_data"] = _watch_surveys
    if ROWS in os.environ:
        wraps["autofit.worker.training.trainer"] = _tell_rows
    sys.meta_path.insert(0, _AfterImport(wraps))


class _AfterImport(MetaPathFinder):
    """Does something with modules once they are imported."""

    def __init__(self, wraps: dict[str, Callable[[ModuleType], None]]) -> None:
        self._wraps = wraps

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        wrap = self._wraps.get(name)
        spec = None if wrap is None else PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_wrap(module: ModuleType) -> None:
            execute(module)
            wrap(module)

        spec.loader.exec_module = execute_and_wrap  # type: ignore[method-assign]
        return spec


def _watch_ranks(lifecycle: Any) -> None:
    begin, enter = lifecycle.Rank.__init__, lifecycle.Rank.enter

    def begin_and_look(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        _look("start")

    def enter_and_look(self: Any, phase: Any) -> None:
        enter(self, phase)
        _look(phase.value)

    lifecycle.Rank.__init__, lifecycle.Rank.enter = begin_and_look, enter_and_look


def _watch_saves(serialization: Any) -> None:
    save = serialization.save

    def look_and_save(*args: Any, **kwargs: Any) -> None:
        _look(SAVING)
        save(*args, **kwargs)

    serialization.save = look_and_save


def _watch_surveys(data: Any) -> None:
    load = data.training_data

    def look_and_load(*args: Any, **kwargs: Any) -> Any:
        _look(SURVEY)  # of what has no rank
        return load(*args, **kwargs)

    data.training_data = look_and_load


def _tell_rows(module: Any) -> None:
    """Has each rank write a line a micro-batch: after how many steps, which of them, and what was in it."""
    compute_loss, counts = module.PhasedTrainer.compute_loss, Counter[int]()

    def tell_and_compute(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if self.model.training:
            rank, step = os.environ["RANK"], self.state.global_step
            counts[step] += 1
            digest = hashlib.sha256(inputs["input_ids"].numpy().tobytes()).hexdigest()
            with Path(os.environ[ROWS], "rows.txt").open("a") as file:
                file.write(f"rank {rank} step {step} micro-batch {counts[step]} {digest}\n")
        return compute_loss(self, model, inputs, *args, **kwargs)

    module.PhasedTrainer.compute_loss = tell_and_compute


_seen: Counter[str] = Counter()  # by this process
_held: list[bytearray] = []


def _look(where: str) -> None:
    """Strikes where this is the moment that the next order names."""
    path = Path(os.environ[ORDER])
    for number, order in enumerate(_orders(path)):
        if struck_path(path, number).exists():
            continue
        if order.where == where and order.rank == _rank() and (_FULL_RUN in sys.modules or not order.is_of_full_run):
            _seen[where] += 1
            if _seen[where] == order.entry and _claim(struck_path(path, number)):
                _strike(order)
        return


def _orders(path: Path) -> list[Order]:
    try:
        told = json.loads(path.read_text())
    except FileNotFoundError:
        return []
    return [Order(**{**one, "action": Action(one["action"])}) for one in told]


def _rank() -> int | None:
    return int(os.environ["RANK"]) if "RANK" in os.environ else None


def _claim(path: Path) -> bool:
    """Says that it happens now; False where it has happened."""
    port = os.environ.get("MASTER_PORT")
    struck = Struck(time.time(), marked(os.environ[MARK]), None if port is None else int(port))
    try:
        with path.open("x") as file:
            file.write(json.dumps(asdict(struck)))
    except FileExistsError:
        return False
    return True


def _strike(order: Order) -> None:
    action = order.action
    if action.name in signal.Signals.__members__:
        os.kill(_ancestor(order.generations), signal.Signals[action.name])
        if order.generations:
            time.sleep(3600)  # what comes next is to be that death's doing
    elif action in _DONE:
        _DONE[action]()
    else:
        raise _raised(action)


def _ancestor(generations: int) -> int:
    pid = os.getpid()
    for _ in range(generations):
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return pid


def _squeeze() -> None:
    """Leaves next to no room, in what the heap has kept neither."""
    found = re.search(r"VmData:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    limit_bytes = int(found[1]) * 1024 + _ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
    with suppress(MemoryError):
        while True:
            _held.append(bytearray(_BLOCK_BYTES))
    del _held[-_ROOM_BYTES // _BLOCK_BYTES :]


def _limit_files() -> None:
    """As a full disk does it, to this process alone: its log and its report are smaller."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, resource.RLIM_INFINITY))


def _spoil() -> None:
    import torch

    for module in [one for one in gc.get_objects() if isinstance(one, torch.nn.Module)]:
        for parameter in module.parameters(recurse=False):
            parameter.data.mul_(float("nan"))


def _hog() -> None:
    """Takes memory that its control group counts and its own limit does not, until the kernel ends a process: this one
    before others. The group is one that the test has made."""
    Path("/proc/self/oom_score_adj").write_text("1000")
    group = Path(os.environ[GROUP])
    used_bytes = int((group / "memory.usage_in_bytes").read_text())
    (group / "memory.limit_in_bytes").write_text(str(used_bytes + _HOG_BYTES // 2))
    block = bytes(2**20)
    with mmap.mmap(-1, _HOG_BYTES) as shared:
        while shared.tell() < _HOG_BYTES:
            shared.write(block)


_DONE: dict[Action, Callable[[], object]] = {
    Action.SQUEEZE: _squeeze,
    Action.FILE_LIMIT: _limit_files,
    Action.NOT_A_NUMBER: _spoil,
    Action.HOG: _hog,
    Action.EXIT_3: lambda: os._exit(3),
    Action.EXIT_0: lambda: os._exit(0),
}


def _raised(action: Action) -> BaseException:
    """The exception in the words of the library that raises it."""
    if action is Action.PYTHON_MEMORY:
        return MemoryError()
    if action is Action.DISK_FULL:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/scratch/checkpoint")
    if action is Action.QUOTA:
        return OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/home/checkpoint")
    if action is Action.DEVICE_MEMORY:
        import torch

        return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity …")
    if action is Action.SAFETENSORS:
        from safetensors import SafetensorError

        return SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    if action is Action.UNSUPPORTED:
        return NotImplementedError("\"addmm_impl_cpu_\" not implemented for 'Half'")
    return RuntimeError(_WORDS[action])


# torch 2.13: c10/core/impl/alloc_cpu.cpp; ATen/MapAllocator.cpp; c10/cuda/CUDAException.cpp with the
# words of cudaGetErrorString for cudaErrorECCUncorrectable and cudaErrorNoDevice
_WORDS = {
    Action.HOST_MEMORY: "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 4294967296 bytes. Error code 12 (Cannot allocate memory)",
    Action.SHARED_MEMORY: "unable to write to file </torch_4711_1234567890_0>: No space left on device (28)",
    Action.ECC: "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be asynchronously reported",
    Action.DEVICE_LOST: "CUDA error: no CUDA-capable device is detected\nCUDA kernel errors might be asynchronously …",
    Action.BUG: "shape '[2, 3]' is invalid for input of size 7",
}

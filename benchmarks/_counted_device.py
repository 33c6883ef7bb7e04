"""The counted device as torch and DeepSpeed meet it: a library compiled at first use, a module, an accelerator.

A process that calls `become_counted` has the device until it ends. Only such a process loads the library.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from deepspeed.accelerator import set_accelerator
from deepspeed.accelerator.abstract_accelerator import DeepSpeedAccelerator
from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils import cpp_extension

from autofit.domain.errors import UsageError
from autofit.store.location import store_path

NAME = "counted"
HOLLOW_FROM = 1 << 16
"""Elements from which a hollow run computes nothing: more than a batch has tokens, so that what the model's code asks
of its batch is answered truly."""

_LIBRARY = "counted_device"
_SOURCE = Path(__file__).with_suffix(".cpp")
_FLAGS = ["-O1", "-g0", "-w"]


def library_path() -> Path:
    """Where the compiled library lies: beside what autofit remembers, by its source and torch's version."""
    digest = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]
    folder = store_path(os.environ).parent / f"counted-device-{digest}-torch{torch.__version__}"
    return folder / f"{_LIBRARY}.so"


def compile_library() -> None:
    """Compiles the library unless it is there: 25 s of CPU time, once a machine. UsageError without a compiler."""
    path = library_path()
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        cpp_extension.load(
            _LIBRARY,
            [str(_SOURCE)],
            build_directory=str(path.parent),
            extra_cflags=_FLAGS,
            is_python_module=False,
        )
    except (RuntimeError, OSError) as error:
        raise UsageError(
            "the counted device cannot be compiled here: it needs a C++ compiler and ninja, as DeepSpeed's own "
            f"extensions do ({str(error).splitlines()[0]})"
        ) from error


def become_counted(total_bytes: int, *, rank: int, rank_count: int, is_hollow: bool) -> ModuleType:
    """Makes this process rank `rank` of `rank_count`, whose device of `total_bytes` is counted and whose collectives
    return at once; gives the library, which keeps the changes."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK="0", WORLD_SIZE=str(rank_count), MASTER_ADDR="127.0.0.1", MASTER_PORT="1"
    )
    library = _loaded()
    _Memory.library, _Memory.total_bytes = library, total_bytes
    torch.utils.rename_privateuse1_backend(NAME)
    torch._register_device_module(NAME, _Module)  # type: ignore[arg-type]
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)
    torch.UntypedStorage.cpu = _host_copy
    if is_hollow:
        library.set_hollow(HOLLOW_FROM)
    set_accelerator(CountedAccelerator())
    _join(rank, rank_count)
    return library


def caller() -> str:
    """Who allocates: the lines of Python outside torch that are running, the innermost first, and the node of the
    autograd graph."""
    frame, lines = sys._getframe(), []
    while frame is not None and len(lines) < 5:
        path = frame.f_code.co_filename
        if "/torch/" not in path and path != __file__:
            lines.append(f"{'/'.join(Path(path).parts[-2:])}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back  # type: ignore[assignment]
    node = torch._C._current_autograd_node()
    return " < ".join([*lines, *([node.name()] if node is not None else [])])


def _host_copy(storage: torch.UntypedStorage) -> torch.UntypedStorage:
    """A storage on the host, as torch.save makes of each; torch's own comes from an allocator that nobody replaces."""
    return torch.empty(storage.nbytes(), dtype=torch.uint8).untyped_storage().copy_(storage, False)


def _loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location(_LIBRARY, library_path())
    assert spec is not None
    assert spec.loader is not None
    library = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(library)
    return library


def _join(rank: int, rank_count: int) -> None:
    import deepspeed

    if NAME not in dist.Backend.backend_capability["fake"]:
        dist.Backend.backend_capability["fake"].append(NAME)
    dist.Backend.default_device_backend_map[NAME] = "fake"
    dist.init_process_group(f"cpu:fake,{NAME}:fake", rank=rank, world_size=rank_count, store=FakeStore())
    deepspeed.init_distributed("fake")


class _Memory:
    """What the device has, and what of it is held."""

    library: Any = None
    total_bytes = 0

    @classmethod
    def held_bytes(cls, *_: object) -> int:
        return int(cls.library.held_bytes(0))

    @classmethod
    def free_bytes(cls, *_: object) -> int:
        return cls.total_bytes - cls.held_bytes()


# --- Streams and events, between which nothing ever waits -------------------------------------------------------------


class Stream(torch.Stream):
    def __new__(cls, *_: Any, **__: Any) -> Stream:
        made: Stream = super().__new__(cls, device=torch.device(NAME, 0))
        return made

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to leave."""

    def wait_stream(self, *_: Any) -> None:
        """Everything is done."""

    wait_event = synchronize = wait_stream

    def record_event(self, event: Any = None) -> Any:
        return event or Event()

    def query(self) -> bool:
        return True


class Event:
    def __init__(self, *_: Any, **__: Any) -> None:
        """Everything is done."""

    wait = synchronize = record = __init__

    def query(self) -> bool:
        return True

    def elapsed_time(self, _: Any) -> float:
        return 0.0


def _stream(*_: Any) -> Any:
    return Stream()


@contextlib.contextmanager
def _within(_: Any) -> Iterator[None]:
    yield


# --- torch.counted, and DeepSpeed's accelerator -----------------------------------------------------------------------


class _Module:
    """What torch and its family ask of the module of a device."""

    Stream, Event = Stream, Event
    current_stream = default_stream = staticmethod(_stream)
    stream = device = staticmethod(_within)
    memory_allocated = max_memory_allocated = _Memory.held_bytes
    is_available = is_initialized = is_bf16_supported = staticmethod(lambda *_: True)
    _is_in_bad_fork = staticmethod(lambda: False)
    device_count = staticmethod(lambda: 1)
    current_device = staticmethod(lambda: 0)
    set_device = synchronize = empty_cache = manual_seed = manual_seed_all = staticmethod(lambda *_: None)
    get_rng_state = staticmethod(lambda *_: torch.get_rng_state())
    set_rng_state = staticmethod(lambda state, *_: torch.set_rng_state(state))
    get_amp_supported_dtype = staticmethod(lambda: [torch.bfloat16, torch.float16, torch.float32])


class CountedAccelerator(CPU_Accelerator):  # type: ignore[misc]
    """The CPU's accelerator but for what tells a device from its host: streams, memory, pinning."""

    _torch_pins_host_memory = True
    pin_memory = DeepSpeedAccelerator.pin_memory
    _torch_pin_memory = DeepSpeedAccelerator._torch_pin_memory
    _torch_empty_pinned = DeepSpeedAccelerator._torch_empty_pinned
    memory_allocated = memory_cached = memory_reserved = staticmethod(_Memory.held_bytes)
    max_memory_allocated = max_memory_cached = max_memory_reserved = staticmethod(_Memory.held_bytes)
    available_memory = staticmethod(_Memory.free_bytes)
    stream = staticmethod(_within)
    current_stream = default_stream = staticmethod(_stream)
    Stream, Event = Stream, Event

    def __init__(self) -> None:
        super().__init__()
        self._name, self._communication_backend_name = NAME, "fake"

    def is_synchronized_device(self) -> bool:
        return False

    def use_host_timers(self) -> bool:
        return True  # there is nothing to time on the device

    def device_name(self, device_index: int | None = None) -> str:
        return NAME if device_index is None else f"{NAME}:{device_index}"

    def device(self, device_index: int | None = None) -> Any:
        return torch.device(NAME, device_index or 0)

    def current_device(self) -> int:
        return 0

    def current_device_name(self) -> str:
        return f"{NAME}:0"

    def set_rng_state(self, new_state: Any, device_index: int | None = None) -> None:
        torch.set_rng_state(new_state)

    def total_memory(self, device_index: int | None = None) -> int:
        return _Memory.total_bytes

    def is_fp16_supported(self) -> bool:
        return True

    def on_accelerator(self, tensor: torch.Tensor) -> bool:
        return tensor.device.type == NAME

    def create_op_builder(self, op_name: str) -> Any:
        return None if op_name == "ShareMemCommBuilder" else super().create_op_builder(op_name)

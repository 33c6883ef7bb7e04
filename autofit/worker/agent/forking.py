"""What a process keeps to that imports everything and forks: it starts no thread, and leaves the devices alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# torch must not initialize CUDA here: the children could not use it any more.
_NO_CUDA = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
_NO_THREADS = {
    "TOKENIZERS_PARALLELISM": "false",
    "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no pool of compilers in a process that forks
}
_INDUCTOR = "torch._inductor.config"


def prepare_to_fork() -> None:
    """Sets the environment of such a process, and of what it forks; before anything is imported."""
    os.environ.update(_NO_CUDA)
    for name, value in _NO_THREADS.items():
        os.environ.setdefault(name, value)


@contextmanager
def ready_to_fork() -> Iterator[None]:
    """Prepares for the imports within it, and gives what is forked afterwards its threads back: a long training has
    use for them."""
    before = {name: os.environ.get(name) for name in _NO_THREADS}
    prepare_to_fork()
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
    inductor = sys.modules.get(_INDUCTOR)
    if inductor is not None:  # it has looked at the environment when it was imported
        inductor.compile_threads = inductor.decide_compile_threads()  # type: ignore[attr-defined]

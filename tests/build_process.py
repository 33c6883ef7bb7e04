"""A process that is at a build as torch is: it holds torch's own baton, and knows nothing else of torch."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

_BUILDS = """
import os, runpy, sys
baton = runpy.run_path(sys.argv[1])["FileBaton"](sys.argv[2])
assert baton.try_acquire()
print(os.getpid(), flush=True)
sys.stdin.read()
baton.release()
"""


def baton_file() -> str:
    """Where torch's `FileBaton` stands; torch itself need not be imported for it."""
    torch = find_spec("torch")
    assert torch is not None
    assert torch.origin is not None
    return str(Path(torch.origin).parent / "utils/file_baton.py")


def builder_command(lock: Path) -> list[str]:
    """Holds `lock` from the moment on when it writes its process id, until its standard input ends."""
    return [sys.executable, "-c", _BUILDS, baton_file(), str(lock)]


class Builder:
    """Of the extension that has `folder` for its build folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = folder / "lock"
        self.process = subprocess.Popen(builder_command(self.lock), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert int(self.process.stdout.readline()) == self.process.pid

    def release(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(60.0) == 0

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def building(folder: Path) -> Iterator[Builder]:
    """Until the end of the block, at the latest."""
    builder = Builder(folder)
    try:
        yield builder
    finally:
        builder.kill()
        for stream in (builder.process.stdin, builder.process.stdout):
            assert stream is not None
            stream.close()


def left_lock(folder: Path) -> Path:
    """Of a builder that was killed."""
    with building(folder) as builder:
        return builder.lock

"""The extensions that torch compiles at first use: who wants one that another process builds, waits with a limit."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from torch.utils import cpp_extension
from torch.utils.file_baton import FileBaton

from autofit.process.build_locks.build_wait import BuildWait, BuildWatch, OnWait, WaitTeller, wait_until_free


class Baton(FileBaton):
    """A lock in the place of torch's own, which waits for ever, for a builder that was killed too."""

    def __init__(self, path: str, on_wait: OnWait) -> None:
        super().__init__(path)
        self._path, self._on_wait = Path(path), on_wait

    def try_acquire(self) -> bool:
        """Takes the lock, or gives False once another process has built it; BuildLocked when that one takes too
        long."""
        watch = BuildWatch(self._on_wait)
        while not super().try_acquire():
            if wait_until_free(self._path, watch):
                return False
        return True

    def wait(self) -> None:
        wait_until_free(self._path, BuildWatch(self._on_wait))  # of one that came after the build


def wait_for_builders(on_wait: OnWait | None = None) -> None:
    """Has every build of torch's in this process wait so from here on. The log says once for whom, `on_wait` hears it
    each second; without it, whoever hears it already goes on to do so.

    torch 2.14 has no such lock any more: the kernel frees the one in its place when its holder ends.
    """
    if not hasattr(cpp_extension, "FileBaton"):
        return
    if on_wait is None and isinstance(cpp_extension.FileBaton, partial):
        return
    printer = WaitTeller(lambda text: print(f"autofit: {text}", file=sys.stderr, flush=True))

    def hear(wait: BuildWait) -> None:
        printer(wait)
        if on_wait is not None:
            on_wait(wait)

    cpp_extension.FileBaton = partial(Baton, on_wait=hear)

"""What changed in a folder while probes ran: another program than Python may have written past their view of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

_MANY = 20_000  # entries of a folder that are looked at
_SHOWN = 10


class FolderSnapshot:
    """The state of `folder` without what lies in `ours`, as it is now."""

    def __init__(self, folder: Path, ours: Path) -> None:
        self._folder, self._ours = folder, str(ours)
        self._before = self._now()

    def changes(self) -> tuple[str, ...]:
        """The paths of what is new or was changed since, a few of them; nothing is told of a folder with too much."""
        if len(self._before) == _MANY:
            return ()
        found = [path for path, state in self._now().items() if self._before.get(path) != state]
        return tuple(sorted(found)[:_SHOWN])

    def _now(self) -> dict[str, tuple[int, int]]:
        return dict(islice(self._states(str(self._folder)), _MANY))

    def _states(self, folder: str) -> Iterator[tuple[str, tuple[int, int]]]:
        """The files below, each with its size and when it was changed (ns); of a folder only that it is there."""
        try:
            entries = list(os.scandir(folder))
        except OSError:
            return  # not ours to read, or gone meanwhile
        for entry in entries:
            if entry.path == self._ours:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield entry.path, (0, 0)
                yield from self._states(entry.path)
            else:
                with contextlib.suppress(OSError):  # gone meanwhile
                    found = entry.stat(follow_symlinks=False)
                    yield entry.path, (found.st_size, found.st_mtime_ns)

"""What the processes of a benchmark have left on the machine: processes, files in /dev/shm, listening ports."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

SETTLE_S = 1.0
MARK = "AUTOFIT_BENCHMARK"  # every process of this run carries it in its environment, whoever adopted it since


@dataclass(frozen=True)
class Traces:
    """What the processes of this run have left on the machine so far.

    Files in /dev/shm bear no owner's mark: those that others make meanwhile are counted with ours.
    """

    processes: frozenset[str]
    shared_memory: frozenset[str]  # names in /dev/shm
    listening_ports: frozenset[str]

    @classmethod
    def now(cls, mark: str) -> Traces:
        processes = list(_marked_processes(mark))
        return cls(
            frozenset(f"pid {process.name}" for process in processes),
            frozenset(path.name for path in Path("/dev/shm").iterdir()),
            frozenset(_listening_ports(processes)),
        )

    @classmethod
    def settled(cls, mark: str) -> Traces:
        """Once no process is left, or after SETTLE_S: the kernel needs a moment to take down one that was killed."""
        until_s = time.monotonic() + SETTLE_S
        while (traces := cls.now(mark)).processes and time.monotonic() < until_s:
            time.sleep(0.01)
        return traces

    def beyond(self, before: Traces) -> dict[str, object]:
        """How much of each there is now that was not there before, and the names of what there is."""
        news = {name: sorted(getattr(self, name) - getattr(before, name)) for name in vars(self)}
        counts = {f"{name}_count": len(new) for name, new in news.items()}
        return counts | {"names": list(itertools.chain.from_iterable(news.values()))}


def _marked_processes(mark: str) -> Iterator[Path]:
    """Whatever this benchmark started and that still runs; a process may end while it is looked at."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                yield folder


def _listening_ports(processes: Iterable[Path]) -> Iterator[str]:
    """By the sockets that `processes` hold: on a shared machine others open ports, too. State 0A is LISTEN."""
    held = set()
    for process in processes:
        for descriptor in (process / "fd").glob("*"):
            with contextlib.suppress(OSError):
                held.add(os.readlink(descriptor))
    for table in ("tcp", "tcp6"):
        for fields in map(str.split, Path("/proc/net", table).read_text().splitlines()[1:]):
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in held:
                yield f"port {int(fields[1].rpartition(':')[2], 16)}"

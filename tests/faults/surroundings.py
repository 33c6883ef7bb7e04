"""Where a fault happens: the environment of all processes below the test, and what they leave behind."""

from __future__ import annotations

import os
import re
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from autofit.process.build_locks.build_lock import build_locks
from tests.faults.saboteur import MARK, ORDER, ROWS, Order, Struck, marked, read_struck, write_orders
from tests.waiting import is_alive

_ROOT = Path(__file__).parents[2]
_GONE_S = 60.0  # what was killed takes a moment to be gone, on a busy machine a long one


@dataclass(frozen=True)
class Surroundings:
    """A folder for the orders and the temporary files of whatever is started within `entered`."""

    folder: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def orders(self) -> Path:
        return self.folder / "orders.json"

    @property
    def temporary(self) -> Path:
        """Whose path is short, as people's are: that of a socket below it must be."""
        return Path(tempfile.gettempdir(), f"faults-{sha256(str(self.folder).encode()).hexdigest()[:8]}")

    @property
    def rows(self) -> frozenset[str]:
        """Which rows each rank has trained on in each micro-batch of each step, in all starts together."""
        path = self.folder / "rows.txt"
        return frozenset(path.read_text().splitlines() if path.exists() else ())

    @property
    def struck(self) -> Struck | None:
        return read_struck(self.orders)

    @contextmanager
    def entered(self, *orders: Order) -> Iterator[None]:
        """Has everything that is started within it carry the mark and hear the orders."""
        self.temporary.mkdir(parents=True, exist_ok=True)
        if orders:
            write_orders(self.orders, *orders)
        before = dict(os.environ)
        os.environ.update(self.variables)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    @property
    def variables(self) -> dict[str, str]:
        folders = [str(Path(__file__).parent / "sabotage"), str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        own = {MARK: self.mark, ORDER: str(self.orders), ROWS: str(self.folder), "TMPDIR": str(self.temporary)}
        return {**own, "PYTHONPATH": os.pathsep.join(folders), "HF_HUB_OFFLINE": "1"}

    def now(self) -> frozenset[str]:
        """What there is: processes that carry the mark, and what such processes leave in files."""
        processes = [f"process {pid}" for pid in marked(self.mark) if is_alive(pid)]
        files = [f"temporary file {path.name}" for path in self.temporary.glob("*")]
        shared = [f"shared memory {path.name}" for path in Path("/dev/shm").iterdir()]
        return frozenset([*processes, *files, *shared, *(f"lock {lock.path}" for lock in build_locks())])

    def left_behind(self, before: frozenset[str]) -> tuple[str, ...]:
        """What there is beside what was `before`, once a busy machine has had its time to clear up."""
        deadline_s = time.monotonic() + _GONE_S
        while (left := tuple(sorted(self._left(before)))) and time.monotonic() < deadline_s:
            time.sleep(0.2)
        with suppress(OSError):  # something is left in it, or goes on
            self.temporary.rmdir()
        return left

    def _left(self, before: frozenset[str]) -> Iterator[str]:
        struck = self.struck
        numbers = set() if struck is None else {str(number) for number in (*struck.pids, struck.port)}
        for one in self.now() - before:
            # others may have come meanwhile: its names tell whose it is
            if not one.startswith("shared") or numbers & set(re.findall(r"\d+", one)):
                yield one
        if struck is not None and struck.port in _listening():
            yield f"port {struck.port}"


def _listening() -> set[int]:
    """The ports on which anybody listens; the state 0A is LISTEN in include/net/tcp_states.h."""
    tables = [Path("/proc/net", name) for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    return {int(fields[1].rpartition(":")[2], 16) for fields in lines if fields[3] == "0A"}

"""One command of the peers benchmark, watched from outside: when each of its steps ended, and when it did."""

from __future__ import annotations

import resource
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from _child import end

DEADLINE_S = 1800.0
_POLL_S = 0.005


class Failed(Exception):
    """A command that has not trained, with the end of its log."""


@dataclass
class StepFile:
    """Lines that a training writes, of which some tell the end of a step."""

    path: Path
    is_step: Callable[[str], bool]
    _read_bytes: int = 0
    _rest: str = ""

    def new_steps(self) -> int:
        """How many steps have ended since the last time."""
        if not self.path.exists() or self.path.stat().st_size == self._read_bytes:
            return 0
        with self.path.open("rb") as file:
            file.seek(self._read_bytes)
            content = file.read()
        self._read_bytes += len(content)
        *lines, self._rest = (self._rest + content.decode(errors="replace")).split("\n")
        return sum(map(self.is_step, lines))


@dataclass(frozen=True)
class Watched:
    step_ends_s: tuple[float, ...]
    total_s: float
    cpu_s: float


@dataclass
class Command:
    """`words` run in `folder`, whose output goes to `log`; interrupted after `stop_after` steps where that is given."""

    words: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    steps: StepFile
    log: Path
    stop_after: int | None = None
    _ends_s: list[float] = field(default_factory=list)

    def run(self) -> Watched:
        """Raises Failed when it ends otherwise than well, or with too few steps."""
        self.folder.mkdir(parents=True, exist_ok=True)
        used_before_s, began_at_s = _children_cpu_s(), time.monotonic()
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                list(self.words),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(self.environment),
                start_new_session=True,
            )
            try:
                self._follow(process, began_at_s)
            finally:
                total_s = time.monotonic() - began_at_s
                end(process)
        if len(self._ends_s) < 4 or (self.stop_after is None and process.returncode != 0):
            raise Failed(self.log.read_text(errors="replace")[-3000:])
        return Watched(tuple(self._ends_s), total_s, _children_cpu_s() - used_before_s)

    def _follow(self, process: subprocess.Popen[bytes], began_at_s: float) -> None:
        """Until it ends, has made its steps, or is too late."""
        is_running = True
        while is_running and time.monotonic() - began_at_s < DEADLINE_S:
            is_running = process.poll() is None
            self._ends_s += [time.monotonic() - began_at_s] * self.steps.new_steps()
            if self.stop_after is not None and len(self._ends_s) >= self.stop_after:
                return
            time.sleep(_POLL_S if is_running else 0.0)


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

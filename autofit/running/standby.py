"""DeepSpeed's launcher started ahead of the choice: it has imported everything when it is told what to run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from autofit.domain.codec import to_json
from autofit.domain.hardware import DeviceKind
from autofit.process.child import Child
from autofit.process.python import SAFE_PATH, module_command, worker_environment
from autofit.process.signals import ShieldedExit, wait

WARM_LAUNCHER = "autofit.worker.deepspeed.warm_launcher"
_SETTLE_S = 60.0  # from a slow disk its imports take longer: the measurements are not kept waiting for ever


class Standby(ShieldedExit):
    """A launcher that stands by, from `start` to the end of `with`, which ends it unless it was taken.

    It touches no device. `program` stands for it; it is told after its words on which descriptor, closed, it says that
    it stands by.
    """

    def __init__(self, kind: DeviceKind, log_path: Path, *, program: Sequence[str] = ()) -> None:
        self._kind = kind
        self._log_path = log_path
        self._program = program or [*module_command(WARM_LAUNCHER), "--stand-by"]
        self._child: Child | None = None
        self._importing: int | None = None

    def __enter__(self) -> Standby:
        return self

    def start(self) -> None:
        """Starts it, once; on a single core it would only take that from the search."""
        if self._child is not None or len(os.sched_getaffinity(0)) < 2:
            return
        self._importing, writing = os.pipe()
        try:
            with self._log_path.open("ab") as log:
                self._child = Child(
                    [*self._program, str(writing)],
                    log,
                    environment=worker_environment(self._kind) | SAFE_PATH,
                    stdin=subprocess.PIPE,
                    pass_fds=[writing],
                )
        finally:
            os.close(writing)

    def settle(self) -> None:
        """Waits until it stands by, or has ended: from then on it takes no core from what is measured."""
        if self._importing is not None:
            wait([self._importing], _SETTLE_S)

    def take(self, words: Sequence[str]) -> Child | None:
        """The launcher, which runs `words` from here on and is the caller's to end; None where none stands by."""
        child, self._child = self._child, None
        self._forget_importing()
        if child is None:
            return None
        try:
            child.write(f"{to_json(list(words))}\n".encode())
        except BrokenPipeError:
            child.kill()
            return None
        return child

    def _close(self) -> None:
        if self._child is not None:
            self._child.kill()
        self._forget_importing()

    def _forget_importing(self) -> None:
        if self._importing is not None:
            os.close(self._importing)
            self._importing = None

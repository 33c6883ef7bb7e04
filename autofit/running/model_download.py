"""The download of a model, in a process of its own, beside whatever is done meanwhile."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from autofit.domain.codec import decode_union, to_json
from autofit.domain.errors import AutofitError, UsageError
from autofit.domain.event import DownloadEnded, DownloadEvent, DownloadProgress, DownloadStarted, Note
from autofit.inputs.download import (
    AllFetched,
    Denied,
    Download,
    Fetched,
    FetchMessage,
    SmallFetched,
    Stopped,
    stopped_text,
)
from autofit.process.child import Child
from autofit.process.python import module_command
from autofit.process.signals import ShieldedExit

_POLL_S = 0.1
_LIST_S = 10.0  # nothing is missing but the list of the files, which only spares the hub questions
_FETCH = module_command("autofit.inputs.fetch")

ShowDownload = Callable[[DownloadEvent], None]


class ModelDownload(ShieldedExit):
    """One download, from `with` to the end of `with`, which ends it where it stands: what is here stays.

    `show` hears of it, from a thread of its own; of nothing where there is nothing to fetch but the list of the files.
    `program` stands for the process that fetches.
    """

    def __init__(
        self,
        download: Download,
        *,
        log_path: Path,
        show: ShowDownload,
        clock: Callable[[], float] = time.monotonic,
        program: Sequence[str] = _FETCH,
    ) -> None:
        self._download = download
        self._log_path = log_path
        self._show = (lambda event: None) if download.is_empty else show
        self._clock = clock
        self._program = program
        self._at = Fetched(0, download.size_bytes)
        self._has_small_files = False
        self._is_awaited = False
        self._failure: Stopped | Denied | None = None

    def __enter__(self) -> ModelDownload:
        self._began_s = self._clock()
        self._show(DownloadStarted(self._download.model, self._download.commit, self._download.size_bytes))
        self._start()
        return self

    def wait_for_small_files(self) -> None:
        """Waits for all but the weights, which every probe loads; UsageError where the hub does not give them."""
        self._is_awaited = True
        patient_until_s = self._clock() + (_LIST_S if self._download.is_empty else math.inf)
        while not self._has_small_files and not self._has_ended() and self._clock() < patient_until_s:
            pass
        if not self._has_small_files:
            self._check()
        self._is_awaited = False

    def wait(self) -> None:
        """Waits for everything. A download that stopped meanwhile is tried once more; UsageError if it stops again."""
        if self._download.is_empty:
            return
        self._is_awaited = True
        if self._has_ended() and self._child.exit_code != 0:
            self._close()
            self._start()
        while not self._has_ended():
            pass
        self._check()

    def _start(self) -> None:
        self._failure = None
        heard, said = os.pipe()
        with self._log_path.open("ab") as log:
            self._child = Child([*self._program, str(said)], log, stdin=subprocess.PIPE, pass_fds=[said])
        os.close(said)
        with contextlib.suppress(BrokenPipeError):  # it has ended, which is seen where it is waited for
            self._child.write(to_json(self._download).encode() + b"\n")
        self._listener = threading.Thread(target=self._listen, args=(heard,), name="download", daemon=True)
        self._listener.start()

    def _has_ended(self) -> bool:
        return self._child.has_ended(_POLL_S)

    def _listen(self, heard: int) -> None:
        with os.fdopen(heard, "rb") as lines:
            for line in lines:
                self._hear(decode_union(FetchMessage, json.loads(line)))

    def _hear(self, message: FetchMessage) -> None:
        match message:
            case Fetched(done_bytes, total_bytes):
                self._at = message
                self._show(DownloadProgress(done_bytes, total_bytes))
            case SmallFetched():
                self._has_small_files = True
            case AllFetched():
                took_s = self._clock() - self._began_s
                self._show(DownloadEnded(self._download.model, self._at.total_bytes, took_s))
            case Stopped() | Denied():
                self._failure = message
                if not self._is_awaited:
                    self._show(Note(self._interruption()))

    def _interruption(self) -> str:
        """What is told while the search goes on: those who can mend it have until its end."""
        if isinstance(self._failure, Denied):
            return f"{self._failure.sentence} It is asked for once more after the search."
        return f"the download of {self._download.model} stopped; it goes on after the search"

    def _check(self) -> None:
        """UsageError, or another AutofitError, where the process has ended without fetching everything."""
        if self._download.is_empty:
            return
        self._listener.join()
        if self._child.exit_code == 0:
            return
        match self._failure:
            case Stopped():
                raise UsageError(stopped_text(self._download.model, self._at, self._failure))
            case Denied(sentence):
                raise UsageError(sentence)
        raise AutofitError(
            f"The download of {self._download.model} ended early (exit code {self._child.exit_code}): "
            f"{self._log_path} says more; the same command goes on from there."
        )

    def _close(self) -> None:
        self._child.kill()
        self._listener.join()

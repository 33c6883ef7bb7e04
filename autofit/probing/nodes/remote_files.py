"""What a probe of a script leaves on a node that is not the CLI's: a log, and the folder above its scratch folder."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from autofit.probing.protocol import RunProbe, ScriptSpec

_TAIL_BYTES = 256 * 1024  # of a log: enough for a traceback of every rank


class RemoteFiles:
    """What a probe leaves there, where the CLI's folder for logs need not exist: ranks write beside their scratch
    folder."""

    def __init__(self, probe: RunProbe) -> None:
        assert isinstance(probe.spec, ScriptSpec)
        self._probe, self._spec = probe, probe.spec
        self._log_path = Path(self._spec.scratch_path + ".log")
        self._has_made_folder = not self._log_path.parent.exists()

    @property
    def probe(self) -> RunProbe:
        """The probe as this node's agent is to run it."""
        return replace(self._probe, spec=replace(self._spec, log_path=str(self._log_path)))

    def prepare(self) -> None:
        """Makes the folder; OSError where the node's disk does not let it."""
        self._log_path.parent.mkdir(parents=True, exist_ok=True)
        self._log_path.touch()

    def clear(self) -> str:
        """Leaves nothing behind; the end of what the ranks wrote."""
        text = self._log_path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace") if self._log_path.exists() else ""
        with contextlib.suppress(OSError):  # another probe's, or it never came to be
            self._log_path.unlink(missing_ok=True)
            if self._has_made_folder:
                self._log_path.parent.rmdir()
        return text

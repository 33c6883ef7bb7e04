"""The trials of a run, one JSON line each, only ever appended to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from autofit.domain.codec import encode, to_json
from autofit.domain.trial import Trial
from autofit.process.files import OURS, opening

from .json_file import parse_value, with_schema


class Journal:
    """A file of trials in which every line that ends in a newline is whole; what follows the last one was cut off by a
    kill. `flag` names another run folder."""

    def __init__(self, path: Path, flag: str) -> None:
        self.path = path
        self._flag = flag

    def append(self, trial: Trial) -> None:
        """Appends a trial, which is safe on disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = to_json(with_schema(encode(trial)), ensure_ascii=False)
        with open(self.path, "a+b", opener=opening(OURS)) as stream:
            _drop_cut_line(stream)
            stream.write(line.encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def read(self) -> tuple[Trial, ...]:
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return ()
        lines = content.decode(errors="replace").split("\n")[:-1]
        return tuple(parse_value(line, Trial, f"{self.path}, line {n},", self._flag) for n, line in enumerate(lines, 1))


def _drop_cut_line(stream: IO[bytes]) -> None:
    stream.seek(0)
    stream.truncate(stream.read().rfind(b"\n") + 1)

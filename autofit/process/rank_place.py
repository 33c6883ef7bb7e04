"""Where each rank of the full run is, and how it ended, in files beside its report: they tell of a rank that could
leave none."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from autofit.domain.codec import decode, to_json
from autofit.domain.outcome import Phase
from autofit.process.files import OURS, write_whole

_WIDTH_BYTES = 128  # of every writing, so that a shorter one leaves nothing of a longer one behind it


@dataclass(frozen=True)
class RankPlace:
    process_id: int
    phase: Phase
    step: int = 0  # optimizer steps that are done, a resumed run's earlier ones among them; 0 before its first


class PlaceFile:
    """The file in which this process says where it is: in one write, for a forward pass may take a millisecond."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._file = os.open(_path(folder, rank), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OURS)
        self._texts: dict[Phase, bytes] = {}
        self._step = -1  # of these texts

    def write(self, phase: Phase, step: int = 0) -> None:
        if step != self._step:
            self._texts.clear()
            self._step = step
        if phase not in self._texts:
            self._texts[phase] = to_json(RankPlace(os.getpid(), phase, step)).ljust(_WIDTH_BYTES).encode()
        os.pwrite(self._file, self._texts[phase], 0)


def read_place(folder: Path, rank: int) -> RankPlace | None:
    """Where a rank is; None where it has not begun."""
    try:
        text = _path(folder, rank).read_text()
    except FileNotFoundError:
        return None
    return decode(RankPlace, json.loads(text)) if text else None


def beat_ns(folder: Path, rank: int) -> int:
    """When a rank last said where it is; of use only to see that it has said so again, for clocks are set anew."""
    return _path(folder, rank).stat().st_mtime_ns


def write_exit_code(folder: Path, rank: int, exit_code: int) -> None:
    """Leaves how a rank ended, negative for a signal, for whoever comes too late to see it in /proc."""
    write_whole(_end_path(folder, rank), str(exit_code).encode())


def read_exit_code(folder: Path, rank: int) -> int | None:
    """How a rank ended; None while nobody has seen that."""
    try:
        return int(_end_path(folder, rank).read_text())
    except FileNotFoundError:
        return None


def _end_path(folder: Path, rank: int) -> Path:
    return folder / f"rank{rank}-end.json"


def _path(folder: Path, rank: int) -> Path:
    return folder / f"rank{rank}-place.json"

"""The table of trials: the latest of each strategy under each key."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass

from autofit.domain.outcome import Measured, OutOfMemory
from autofit.domain.trial import Trial

from .serialization import digest, pack, unpack
from .trial_key import TrialKey

SAME_MEMORY = 1.05
"""How far an out of memory reaches: it says nothing of a device with more than so many times the memory that was free
then."""

_COLUMNS = (
    "id", "key", "at_s", "model", "request", "machine", "strategy", "outcome", "is_rehearsal", "tokens_per_s",
    "peak_bytes", "device_memory_bytes", "facts", "body",
)  # fmt: skip
_WRITE = f"INSERT OR REPLACE INTO trial ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_READ = f"""
    SELECT body FROM trial
    WHERE key = ? AND (outcome != '{OutOfMemory.__name__}' OR device_memory_bytes * {SAME_MEMORY} >= ?)
    ORDER BY at_s
"""
_LIST = """
    SELECT at_s, model, request, machine, strategy, outcome, is_rehearsal, tokens_per_s, peak_bytes FROM trial
    ORDER BY model, request, machine, at_s
"""


@dataclass(frozen=True)
class Entry:
    """A trial as people read it; `at_s` counts from 1970, `outcome` is the name of its kind."""

    at_s: float
    model: str
    request: str
    machine: str
    strategy: str
    outcome: str
    is_rehearsal: bool
    tokens_per_s: float | None
    peak_bytes: int | None


@dataclass(frozen=True)
class Remembered:
    """A trial with all that it depends on."""

    at_s: float
    key: TrialKey
    trial: Trial


def write_trial(connection: sqlite3.Connection, trial: Trial, key: TrialKey, at_s: float) -> None:
    """Writes a trial in the place of an earlier one of the same strategy under the same key."""
    tokens_per_s, peak_bytes = _figures(trial)
    row = (
        digest(key.digest, trial.strategy, trial.is_rehearsal), key.digest, at_s, key.shape.name, key.request_summary,
        key.machine_summary, str(trial.strategy), type(trial.outcome).__name__, trial.is_rehearsal, tokens_per_s,
        peak_bytes, key.device_memory_bytes, pack(key), pack(trial),
    )  # fmt: skip
    connection.execute(_WRITE, row)


def read_trials(connection: sqlite3.Connection, key: TrialKey) -> Iterator[Trial]:
    """The trials, oldest first, that still say something with the memory that is free now."""
    for (body,) in connection.execute(_READ, (key.digest, key.device_memory_bytes)):
        try:
            yield unpack(Trial, body)
        except ValueError:  # of a build that wrote it otherwise
            continue


def delete_trials(connection: sqlite3.Connection, key: TrialKey) -> None:
    connection.execute("DELETE FROM trial WHERE key = ?", (key.digest,))


def list_trials(connection: sqlite3.Connection) -> Iterator[Entry]:
    for at_s, model, request, machine, strategy, outcome, is_rehearsal, *figures in connection.execute(_LIST):
        yield Entry(at_s, model, request, machine, strategy, outcome, bool(is_rehearsal), *figures)


def whole_trials(connection: sqlite3.Connection) -> Iterator[Remembered]:
    for at_s, facts, body in connection.execute("SELECT at_s, facts, body FROM trial ORDER BY at_s"):
        try:
            yield Remembered(at_s, unpack(TrialKey, facts), unpack(Trial, body))
        except ValueError:  # of a build that wrote it otherwise
            continue


def _figures(trial: Trial) -> tuple[float | None, int | None]:
    """Tokens per second and peak bytes, as far as they are known."""
    match trial.outcome:
        case Measured():
            return trial.outcome.tokens_per_s, trial.outcome.peak_device_bytes
        case OutOfMemory():
            return None, trial.outcome.peak_bytes
        case _:
            return None, None

"""The one file that remembers across runs, and what happens when it cannot."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from math import inf
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from autofit.domain.estimate import Constants
from autofit.domain.model import ModelFacts
from autofit.domain.trace import MicroStep, Trace
from autofit.domain.trial import Trial

from . import pruning, tables, trials_table
from .location import store_path
from .machine_kind import DeviceKey
from .pruning import Counts
from .schema import connect
from .trial_key import TrialKey
from .trials_table import Entry, Remembered

T = TypeVar("T")


def open_store() -> Store:
    """The user's own store; nothing is read or made before it is entered."""
    return Store(store_path(os.environ))


class Store:
    """Traces, models' facts, trials and constants in the SQLite file at `path`; several processes may share it.

    Nothing here raises for what is wrong with the file: the first time it is of no use, `trouble` says so in one
    sentence, and from then on nothing is found and nothing is written. `clock` gives seconds since 1970.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.trouble: str | None = None
        self._clock = clock
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> Store:
        try:
            self._connection = connect(self.path)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def get_traces(self, fingerprint: str, micro_steps: Iterable[MicroStep]) -> tuple[Trace, ...]:
        """The traces of `micro_steps` that are known; `fingerprint` is `trace_fingerprint`'s."""
        return self._attempt(lambda file: tuple(tables.read_traces(file, fingerprint, micro_steps)), ())

    def put_traces(self, fingerprint: str, new: Iterable[Trace]) -> None:
        self._attempt(lambda file: tables.write_traces(file, fingerprint, new, self._clock()), None)

    def get_facts(self, fingerprint: str) -> ModelFacts | None:
        """What is known of a model; `fingerprint` is `facts_fingerprint`'s."""
        return self._attempt(lambda file: tables.read_facts(file, fingerprint), None)

    def put_facts(self, fingerprint: str, facts: ModelFacts) -> None:
        self._attempt(lambda file: tables.write_facts(file, fingerprint, facts, self._clock()), None)

    def recall(self, key: TrialKey) -> tuple[Trial, ...]:
        """The latest trial of each strategy, oldest first; without every out of memory met with less memory."""
        return self._attempt(lambda file: tuple(trials_table.read_trials(file, key)), ())

    def remember(self, trial: Trial, key: TrialKey) -> None:
        self._attempt(lambda file: trials_table.write_trial(file, trial, key, self._clock()), None)

    def forget(self, key: TrialKey) -> None:
        """Forgets all trials of a key: they are not true any more."""
        self._attempt(lambda file: trials_table.delete_trials(file, key), None)

    def get_constants(self, device: DeviceKey) -> Constants | None:
        return self._attempt(lambda file: tables.read_constants(file, device), None)

    def put_constants(self, device: DeviceKey, fitted: Constants) -> None:
        self._attempt(lambda file: tables.write_constants(file, device, fitted, self._clock()), None)

    def entries(self) -> tuple[Entry, ...]:
        """All trials to be read by people, by model, request and machine."""
        return self._attempt(lambda file: tuple(trials_table.list_trials(file)), ())

    def remembered(self) -> tuple[Remembered, ...]:
        """All trials with all that they depend on, oldest first."""
        return self._attempt(lambda file: tuple(trials_table.whole_trials(file)), ())

    def counts(self) -> Counts:
        return self._attempt(pruning.count, Counts())

    def prune(self, *, older_than_s: float | None = None, model: str | None = None) -> Counts:
        """Forgets what is older, or all of it when that is None; of trials of `model` alone when it is named."""
        before_s = inf if older_than_s is None else self._clock() - older_than_s
        return self._attempt(lambda file: pruning.prune(file, before_s=before_s, model=model), Counts())

    def _attempt(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        if self._connection is None:
            return otherwise
        try:
            return work(self._connection)
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)
            return otherwise

    def _give_up(self, error: Exception) -> None:
        """Stops using the file at the first failure: a file that a stuck process holds would cost the busy timeout each
        time."""
        self._close()
        reason: object = error
        if isinstance(error, OSError):
            reason = ": ".join(filter(None, (error.strerror, error.filename)))
        self.trouble = f"{self.path} cannot be used ({reason}); autofit goes on without it"

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

"""What is known at one moment of the search: the ladder, its records, and what the trials taught about speed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from autofit.domain.ladder import Ladder
from autofit.domain.outcome import Measured
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Trial

from .cost import Learned
from .learning import learn
from .record import Record, records
from .setting import Setting


@dataclass(frozen=True)
class Search:
    ladder: Ladder
    setting: Setting
    records: tuple[Record, ...]

    @staticmethod
    def of(ladder: Ladder, trials: Sequence[Trial], setting: Setting) -> Search:
        return Search(ladder, setting, records(ladder, trials))

    @property
    def trial_count(self) -> int:
        return sum(len(record.trials) for record in self.records)

    @property
    def device_bytes(self) -> int:
        return self.ladder.device_memory_bytes

    @cached_property
    def measured(self) -> tuple[Record, ...]:
        return tuple(record for record in self.records if record.points)

    @cached_property
    def failed(self) -> tuple[Record, ...]:
        """The rungs for which the device was too small, with any micro-batch."""
        return tuple(record for record in self.records if record.failed_micro_batch is not None)

    @cached_property
    def learned(self) -> Learned:
        return learn(self.measured, self.setting)


def leader(among: Iterable[Record]) -> Record | None:
    """The rung with the fastest measured strategy; the plainer one, earlier in the ladder, when two are equal."""
    return max((record for record in among if record.points), key=best_tokens_per_s, default=None)


def best_of(record: Record) -> tuple[Strategy, Measured]:
    assert record.best is not None, f"{record.rung} was not measured"
    return record.best


def best_tokens_per_s(record: Record) -> float:
    """0 when nothing of it was measured."""
    return 0.0 if record.best is None else record.best[1].tokens_per_s

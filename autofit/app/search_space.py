"""What is searched, and who runs what a search asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from autofit.domain.goal import AN_HOUR, Goal
from autofit.domain.knobs.last_resort import LastResort
from autofit.domain.ladder import Ladder
from autofit.domain.outcome import Outcome
from autofit.domain.resort import Resort
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Probe, Trial
from autofit.planning.setting import Setting
from autofit.probing.prober import OnHeartbeat, OnRehearsalHeartbeat


class ProbeRunner(Protocol):
    """Runs the probes that the policy asks for; `trials` are those before."""

    def probe(self, probe: Probe, trials: Sequence[Trial], on_heartbeat: OnHeartbeat) -> Outcome: ...


class Rehearsals(Protocol):
    """Runs the rehearsals that the policy asks for; `trials` are those before."""

    def rehearse(
        self, strategies: Sequence[Strategy], trials: Sequence[Trial], on_heartbeat: OnRehearsalHeartbeat
    ) -> tuple[Outcome, ...]: ...


class Resorts(Protocol):
    """Knows the last resorts of a search that gives up."""

    def wider(self, space: SearchSpace) -> Wider | None:
        """What is searched with the next last resort; None where none is allowed or left."""
        ...

    def named(self, space: SearchSpace, trials: Sequence[Trial]) -> tuple[Resort, ...]:
        """The last resorts that were not tried and would fit."""
        ...


@dataclass(frozen=True)
class SearchSpace:
    """What is searched, in which setting, and what for; `tried` is what was seen of it on the way here."""

    setting: Setting
    ladder: Ladder
    goal: Goal = AN_HOUR
    tried: tuple[tuple[Strategy, Outcome], ...] = ()


@dataclass(frozen=True)
class Wider:
    """A space with a last resort more, and who runs what is asked for there."""

    order: LastResort
    space: SearchSpace
    runner: ProbeRunner
    rehearsals: Rehearsals

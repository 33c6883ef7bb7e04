"""Whether the ranks of a full run stand still, and for which of them the others wait, by what is seen of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from autofit.domain.outcome import Phase, TimedOut
from autofit.process.process_state import ProcessState

LEAST_S = 300.0
"""A step of half a second may take as long once: a kernel is compiled for a new shape, a disk does not answer."""

_UNMEASURED = 2.0  # times as long where no steps are there to go by: set-up, saves, evaluations, the first steps
_STEPS = 20.0  # of the slowest step of late
_WARM_UP_STEPS = 2
_RECENT_STEPS = 50
_LONGEST_LOOK_S = 5.0  # from one look to the next: with more we were stopped ourselves, and so was everything else

_CERTAIN = (ProcessState.STOPPED, ProcessState.BLOCKED, ProcessState.RUNNING, ProcessState.ENDED)

STEPPING = (Phase.GENERATE, Phase.REWARD, Phase.FORWARD, Phase.REFERENCE, Phase.BACKWARD, Phase.STEP)


@dataclass(frozen=True)
class Sign:
    """What one look shows of a rank. `beat` changes with each heartbeat, `work` with what it and its children read,
    write and compute where it has no heartbeats of its own."""

    rank: int
    phase: Phase
    step: int
    beat: int
    work: int = 0
    state: ProcessState = ProcessState.RUNNING


class StallJudge:
    """Says that no rank has moved for longer than a healthy run would stand still.

    As long as one of them moves the others may wait for it. Steps are measured as they come; `step_s` is what a probe
    measured, for the first. Nothing is quicker than `least_s`.
    """

    def __init__(self, *, least_s: float = LEAST_S, step_s: float | None = None) -> None:
        self._least_s = least_s
        self._first_step_s = step_s or 0.0
        self._seen: dict[int, Sign] = {}
        self._moved_at_s: dict[int, float] = {}
        self._now_s = 0.0  # of looks, without the time in which nobody looked
        self._looked_at_s: float | None = None
        self._step_began_at_s = 0.0
        self._step_count = 0
        self._steps_s: deque[float] = deque(maxlen=_RECENT_STEPS)

    @property
    def silent_s(self) -> float:
        """For how long no rank has moved."""
        return self._now_s - max(self._moved_at_s.values(), default=0.0)

    def take(self, signs: Sequence[Sign], at_s: float) -> TimedOut | None:
        """Takes a look at `at_s`; what is to be said of the ranks, None while all is well."""
        passed_s = 0.0 if self._looked_at_s is None else at_s - self._looked_at_s
        self._now_s += min(passed_s, _LONGEST_LOOK_S)
        self._looked_at_s = at_s
        for sign in signs:
            self._note(sign)
        after_s = max((self._deadline_s(sign.phase) for sign in signs), default=_UNMEASURED * self._least_s)
        if self.silent_s <= after_s:
            return None
        hung = min(signs, key=self._suspicion, default=None)
        return TimedOut(0, Phase.START, after_s) if hung is None else TimedOut(hung.rank, hung.phase, after_s)

    def _note(self, sign: Sign) -> None:
        before = self._seen.get(sign.rank)
        if before is None or (before.beat, before.work) != (sign.beat, sign.work):
            self._moved_at_s[sign.rank] = self._now_s
        if before is not None and sign.step > max(one.step for one in self._seen.values()):
            self._count_step()
        self._seen[sign.rank] = sign

    def _count_step(self) -> None:
        self._step_count += 1
        if self._step_count > _WARM_UP_STEPS:
            self._steps_s.append(self._now_s - self._step_began_at_s)
        self._step_began_at_s = self._now_s

    def _deadline_s(self, phase: Phase) -> float:
        step_s = max(self._steps_s, default=self._first_step_s)
        is_measured = phase in STEPPING and bool(self._steps_s)
        return max(self._least_s * (1.0 if is_measured else _UNMEASURED), _STEPS * step_s)

    def _suspicion(self, sign: Sign) -> tuple[int, int, float]:
        """The less, the more likely it is this rank that the others wait for: it was stopped, is behind, or moved
        last before all others."""
        return _CERTAIN.index(sign.state), sign.step, self._moved_at_s[sign.rank]

"""A fault as the tests and the benchmark declare it: what is done, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autofit.domain.ending import PLACES
from autofit.domain.errors import InternalError
from autofit.domain.outcome import Killed, Phase, Place, SignalCrash, TimedOut
from tests.faults.saboteur import SAVING, Action, Order

REACTED_S = 30.0  # seconds on an idle machine are one or two


@dataclass(frozen=True)
class Fault:
    """`kind` is the type of the ending, `words` are in its sentence, and `within_s` it is known.

    `rank` and `place` are those that the ending names, where it has them. `saved_step` is that of the last checkpoint
    of a full run, which must be whole; None where none was due.
    """

    order: Order
    kind: type
    words: tuple[str, ...]
    within_s: float = REACTED_S
    rank: int | None = None
    place: Place | None = None
    saved_step: int | None = None
    silence_s: float | None = None  # after which a full run is taken to stand still; None: its own

    def __str__(self) -> str:
        order = self.order
        above = "" if not order.generations else f" {order.generations} above"
        whose = "" if order.rank is None else f" rank {order.rank}"
        return f"{order.action.name}{above}{whose} {order.where} {order.entry}"

    def has_told(self, end: Any, sentence: str) -> bool:
        """Whether it ended as it must, and was said so."""
        is_typed = isinstance(end, self.kind) and not isinstance(end, InternalError)  # which is our bug
        has_rank = self.rank is None or getattr(end, "rank", None) == self.rank
        has_place = self.place is None or getattr(end, "place", None) is self.place
        return is_typed and has_rank and has_place and all(word in sentence for word in self.words)


def phase_of(order: Order) -> Phase:
    """The phase in which it happens."""
    return Phase.SAVE if order.where == SAVING else Phase(order.where)


def killed(phase: Phase, rank: int, entry: int = 1, **kept: int) -> Fault:
    """Somebody kills a rank."""
    return signalled(Order(Action.SIGKILL, phase.value, rank, entry), **kept)


def signalled(order: Order, **kept: int) -> Fault:
    """A signal ends a rank: somebody's, or of its own code."""
    name, rank = order.action.name, order.rank
    assert rank is not None
    is_somebodys = order.action in (Action.SIGKILL, Action.SIGTERM)
    kind, how = (Killed, "was killed") if is_somebodys else (SignalCrash, "crashed")
    sentence = f"rank {rank} {how} by {name} in {PLACES[phase_of(order)]}"
    return Fault(order, kind, (sentence,), rank=rank, **kept)  # type: ignore[arg-type]


def stopped(
    phase: Phase, rank: int, entry: int = 1, *, words: str, silence_s: float, saved_step: int | None = None
) -> Fault:
    """A rank hangs, for as long as it takes to be sure. `words` name it where that is known."""
    order, within_s = Order(Action.SIGSTOP, phase.value, rank, entry), silence_s + REACTED_S
    return Fault(order, TimedOut, (words,), within_s, silence_s=silence_s, saved_step=saved_step)


def raised(action: Action, kind: type, *words: str, where: str, rank: int, entry: int = 1, **more: Any) -> Fault:
    """A library raises in a rank, or the rank ends by itself."""
    return Fault(Order(action, where, rank, entry), kind, words, rank=rank, **more)

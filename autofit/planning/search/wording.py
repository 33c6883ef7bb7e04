"""How merits are said: what a probe could bring, what was looked for, and what bounds all that is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from autofit.domain.objective import Objective
from autofit.domain.units import format_bytes

from .merit import Part, parts
from .search_state import SearchState

SPENT = "the probes are spent"


class Words(Protocol):
    """Of one objective; `best` and `bound` are merits."""

    @property
    def predicted(self) -> str:
        """Why the first probe is the first."""

    @property
    def looked_for(self) -> str:
        """What begins a certificate; nothing for what is looked for unless told."""

    def could_reach(self, bound: float, best: float) -> str: ...

    def verdict(self, bound: float, best: float, gain: float) -> str:
        """What nothing left can do, where no bound is above `bound`."""

    def nearest(self, bound: float, best: float) -> str:
        """The bound in the unit of what is looked for."""

    def no_better(self, bound: float, best: float, gain: float) -> str:
        """Why one rung was not probed, whose bound this is, where one better by more than `gain` would have been."""


def words_of(search: SearchState) -> Words:
    match search.objective:
        case Objective.SPEED:
            return SpeedWords()
        case Objective.MEMORY:
            return MemoryWords()
        case Objective.ENERGY:
            return EnergyWords(search.counts_energy)
        case Objective.BALANCED:
            return BalanceWords(Part.ENERGY in parts(search))


@dataclass(frozen=True)
class SpeedWords:
    predicted: str = "best predicted speed"
    looked_for: str = ""

    def could_reach(self, bound: float, best: float) -> str:
        return f"could reach {bound:,.0f} tokens/s"

    def verdict(self, bound: float, best: float, gain: float) -> str:
        if bound <= best:
            return "nothing left can beat it"
        return f"nothing left can beat it by more than {gain:.0%}" if bound <= best * (1 + gain) else SPENT

    def nearest(self, bound: float, best: float) -> str:
        return f"{bound:,.0f} tokens/s"

    def no_better(self, bound: float, best: float, gain: float) -> str:
        if bound <= best:
            return f"cannot beat {best:,.0f} (bound {bound:,.0f})"
        why = f"cannot beat {best:,.0f} by more than {gain:.0%}" if bound <= best * (1 + gain) else SPENT
        return f"{why} (bound {bound:,.0f})"


@dataclass(frozen=True)
class MemoryWords:
    predicted: str = "least predicted memory"
    looked_for: str = "the least peak memory: "

    def could_reach(self, bound: float, best: float) -> str:
        return f"could need as little as {_bytes(bound)}"

    def verdict(self, bound: float, best: float, gain: float) -> str:
        return _less("need", _bytes(best), bound, best, gain)

    def nearest(self, bound: float, best: float) -> str:
        return _bytes(bound)

    def no_better(self, bound: float, best: float, gain: float) -> str:
        return _unless_spent(f"needs {_bytes(bound)} at least, the choice {_bytes(best)}", bound, best, gain)


@dataclass(frozen=True)
class EnergyWords:
    is_counted: bool  # in every probe
    predicted: str = "least predicted energy"

    @property
    def looked_for(self) -> str:
        without = "" if self.is_counted else ", with the power of the other probes for one that did not count it"
        return f"the least energy{without}: "

    def could_reach(self, bound: float, best: float) -> str:
        return f"could take as little as {_joules(bound)}"

    def verdict(self, bound: float, best: float, gain: float) -> str:
        return _less("take", _joules(best), bound, best, gain)

    def nearest(self, bound: float, best: float) -> str:
        return _joules(bound)

    def no_better(self, bound: float, best: float, gain: float) -> str:
        return _unless_spent(f"takes {_joules(bound)} at least, the choice {_joules(best)}", bound, best, gain)


@dataclass(frozen=True)
class BalanceWords:
    has_energy: bool
    predicted: str = "best predicted product of speed and frugality"

    @property
    def looked_for(self) -> str:
        ratios = "SpeedUp, MemoryUp and EnergyUp" if self.has_energy else "SpeedUp and MemoryUp"
        return f"the greatest product of {ratios}: "

    def could_reach(self, bound: float, best: float) -> str:
        return f"could have {bound / best:.2f} times the best product"

    def verdict(self, bound: float, best: float, gain: float) -> str:
        if bound <= best:
            return "nothing left can have a greater one"
        return f"nothing left can have more than {1 + gain:.2f} times its own" if bound <= best * (1 + gain) else SPENT

    def nearest(self, bound: float, best: float) -> str:
        return f"{bound / best:.2f} times"

    def no_better(self, bound: float, best: float, gain: float) -> str:
        return _unless_spent(f"has {bound / best:.2f} times the choice's product at most", bound, best, gain)


def _less(verb: str, has: str, bound: float, best: float, gain: float) -> str:
    if bound > best * (1 + gain):
        return SPENT
    share = "" if bound <= best else f"{1 / (1 + gain):.0%} of "
    return f"nothing left can {verb} less than {share}its {has}"


def _unless_spent(text: str, bound: float, best: float, gain: float) -> str:
    return text if bound <= best * (1 + gain) else f"{SPENT}: {text}"


def _bytes(merit: float) -> str:
    return format_bytes(round(1 / merit))


def _joules(merit: float) -> str:
    return f"{1 / merit:.3g} J a token"

"""What a knob is: the values that one thing can be turned to, where they work, and how they are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from autofit.domain.hardware import Hardware
    from autofit.domain.model import Lacking

    from .last_resort import LastResort

V = TypeVar("V")
Values = Mapping[str, Any]
"""Values that are settled already, by the names of their knobs."""


@dataclass(frozen=True)
class Conditions:
    """What decides which values can be used; `installed` are the optional packages there, as pip names them, and
    `lacking` is what the model's class does not have."""

    hardware: Hardware
    installed: frozenset[str] = frozenset()
    lacking: tuple[Lacking, ...] = ()


def why_missing(package: str, conditions: Conditions) -> str | None:
    """Why a value that needs an optional package cannot be used; None where it is installed."""
    is_there = package in conditions.installed
    return None if is_there else f"the package {package} is not installed (pip install {package})"


class Reason(Protocol):
    """Why a value is not for this machine, beside what is settled already; None where it is."""

    def __call__(self, value: Any, settled: Values, conditions: Conditions, /) -> str | None: ...


def _none(value: Any, settled: Values, conditions: Conditions, /) -> str | None:
    return None


@dataclass(frozen=True)
class Need:
    """Another knob's values without one of which a value is no combination at all, and why."""

    knob: str
    values: tuple[object, ...]
    why: str


@dataclass(frozen=True)
class Value(Generic[V]):
    """One value, as `word` on a command line, as `text` in a report and as `syllable` in a strategy's name.

    What `gives_up` something of the training is tried only where it is pinned or allowed by its word. `last_resort`
    says that it is named where nothing else fits, and in which order.
    """

    value: V
    word: str
    text: str
    syllable: str = ""  # of the plain value: nothing
    needs: tuple[Need, ...] = ()
    is_told_of: bool = True  # False: nobody is told of it where it is not taken
    gives_up: str = ""  # what a training with it has not that one with the plain value has; a sentence's end
    last_resort: LastResort | None = None


@dataclass(frozen=True)
class PinFlag:
    """The flag that pins a knob; the first name is the one that is shown."""

    names: tuple[str, ...]
    metavar: str
    help: str

    @property
    def name(self) -> str:
        return self.names[0]


@dataclass(frozen=True)
class Knob(Generic[V]):
    """A knob: `values` stand with the plainest first, or, where the knob is settled, the best.

    Most knobs compete: all their values are tried. Of a settled one only the best value that works is tried.
    """

    name: str  # of its field in a Rung, and of its pin
    values: tuple[Value[V], ...]
    flag: PinFlag | None = None  # None: cannot be pinned
    from_least_memory: tuple[V, ...] = ()  # the values by device memory; empty where no value certainly needs less
    outweighs_estimate: bool = False  # whether more by that order is more whatever the estimates say
    adds_work: bool = False  # whether a later value computes or moves all that an earlier one does, and more
    beside_others: tuple[V, ...] = ()  # of those the values that certainly do more than the plainest one, and no other
    changes_training: bool = False  # whether the values train something else, or with other numerics
    is_settled: bool = False
    tells_others: bool = False  # of a settled one: whether people are told of the values that are not taken
    refused: tuple[tuple[str, str], ...] = ()  # words that people may expect, each with why it is no value
    why_unusable: Reason = _none  # of machine and packages: a pinned value is refused with it
    why_pointless: Reason = _none  # a pinned value is tried nevertheless

    def of(self, value: V) -> Value[V]:
        """What is declared of `value`; ValueError when it is none of the knob's."""
        for known in self.values:
            if known.value == value:
                return known
        raise ValueError(f"{value!r} is no value of {self.name}")

    def read(self, word: str) -> V:
        """The value of a word on the command line; ValueError names the words that there are, or says why it is none
        of them."""
        for refused, why in self.refused:
            if word == refused:
                raise ValueError(f"'{word}' is not offered: {why}")
        for known in self.values:
            if known.word == word:
                return known.value
        raise ValueError(f"'{word}' is not one of {', '.join(known.word for known in self.values)}")

    def usable(self, settled: Values, conditions: Conditions) -> tuple[V, ...]:
        """The values that work there beside what is settled already, in their order."""
        known = (one.value for one in self.values)
        return tuple(value for value in known if self.why_not(value, settled, conditions) is None)

    def why_not(self, value: V, settled: Values, conditions: Conditions) -> str | None:
        """Why a value cannot be used there, whether the model lacks it or the machine; None where it can."""
        word = self.of(value).word
        of_model = (one.why for one in conditions.lacking if (one.knob, one.word) == (self.name, word))
        return next(of_model, None) or self.why_unusable(value, settled, conditions)

    def plainness(self, value: V) -> int:
        """The place of a value in the order of plainness: the smaller, the plainer."""
        return self.values.index(self.of(value))

    def needs_no_less(self, one: V, other: V) -> bool:
        """Whether `one` certainly needs no less device memory than `other`."""
        if not self.from_least_memory:
            return one == other
        return self.from_least_memory.index(one) >= self.from_least_memory.index(other)

    def does_no_more(self, one: V, other: V) -> bool:
        """Whether `one` certainly computes and moves no more than `other`."""
        if one == other or not self.adds_work:
            return one == other
        if one in self.beside_others or other in self.beside_others:
            return self.plainness(one) == 0
        return self.plainness(one) < self.plainness(other)

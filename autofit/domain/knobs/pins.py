"""The knobs that the user fixed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast, get_type_hints

from autofit.domain.strategy import KNOBS, Rung

from .knob import Knob

V = TypeVar("V")

PINNABLE = tuple(knob for knob in KNOBS if knob.flag is not None)


@dataclass(frozen=True, init=False)
class Pins:
    """A value for each knob that is fixed, and the micro-batch; what is None is left to the search.

    A pin only narrows the ladder. TypeError for a name that no knob has.
    """

    micro_batch: int | None
    fixed: tuple[tuple[str, Any], ...]  # in the order of KNOBS, those that are fixed

    def __init__(self, *, micro_batch: int | None = None, **values: Any) -> None:
        if unknown := values.keys() - {knob.name for knob in KNOBS}:
            raise TypeError(f"no knob is called {', '.join(sorted(unknown))}")
        object.__setattr__(self, "micro_batch", micro_batch)
        pairs = ((knob.name, values.get(knob.name)) for knob in KNOBS)
        object.__setattr__(self, "fixed", tuple(pair for pair in pairs if pair[1] is not None))

    def of(self, knob: Knob[V]) -> V | None:
        return cast("V | None", dict(self.fixed).get(knob.name))

    def settles(self, knob: Knob[Any]) -> bool:
        """Whether they leave a knob no choice: it is pinned, or what is pinned needs one value of it."""
        pinned = [one.of(self.of(one)) for one in KNOBS if self.of(one) is not None]
        return self.of(knob) is not None or any(
            need.knob == knob.name and len(need.values) == 1 for value in pinned for need in value.needs
        )

    def but(self, **changed: Any) -> Pins:
        """The pins with some of them changed; None unpins."""
        return Pins(**{"micro_batch": self.micro_batch, **dict(self.fixed), **changed})

    def only(self, knobs: Collection[Knob[Any]]) -> Pins:
        """The pins of `knobs` alone."""
        names = {knob.name for knob in knobs}
        return Pins(**{name: value for name, value in self.fixed if name in names})

    def as_fields(self) -> Mapping[str, Any]:
        """The pins as files have them: a field for each knob that can be pinned."""
        written = {knob.name: self.of(knob) for knob in PINNABLE}
        return {**written, **dict(self.fixed), "micro_batch": self.micro_batch}

    @classmethod
    def field_kinds(cls) -> Mapping[str, Any]:
        """The types of what `as_fields` writes."""
        hints = get_type_hints(Rung)
        return {"micro_batch": int | None, **{knob.name: hints[knob.name] | None for knob in KNOBS}}

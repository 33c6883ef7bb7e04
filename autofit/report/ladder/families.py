"""Which of many rungs a screen has a line for, and what it says of the others.

Rungs that differ in gradient checkpointing alone are a family: a screen shows its best one and folds the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from autofit.domain.knobs.gradient_checkpointing import GRADIENT_CHECKPOINTING, GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.strategy import Change, Rung

_MOST_ROWS = 6  # of each method, but for what is kept
_MOST_NAMES = 3  # of the families that have no row


@dataclass(frozen=True)
class Entry:
    """A rung that could have a line: whether it surely fits, and whether it has one whatever the others are."""

    rung: Rung
    is_sure: bool = True
    is_kept: bool = False


def opened(entries: Sequence[Entry]) -> frozenset[Rung]:
    """The rungs that have a line, of `entries`, best first: what is kept, the best with each value that changes the
    training, and of each family the best one, with the best sure one where that is not sure."""
    sure_ones = [entry for entry in entries if entry.is_sure and entry.rung.change is not Change.NUMERICS]
    kept = {entry.rung for entry in entries if entry.is_kept}
    kept |= _best_of_each_value(entries) | _best_of_each_value(sure_ones)
    room = {method: _MOST_ROWS - sum(rung.method is method for rung in kept) for method in Method}
    sure: dict[Rung, bool] = {}  # by families that have a line: whether one of it surely fits
    shown = set(kept)
    for entry in entries:
        mine, method = family(entry.rung), entry.rung.method
        is_wanted = mine not in sure or (entry.is_sure and not sure[mine])
        if entry.rung in kept or (is_wanted and room[method] > 0):
            room[method] -= 0 if entry.rung in kept else 1
            shown.add(entry.rung)
            sure[mine] = sure.get(mine, False) or entry.is_sure
    return frozenset(shown)


def _best_of_each_value(entries: Sequence[Entry]) -> set[Rung]:
    best: dict[str, Rung] = {}
    for entry in entries:
        for word in [value.word for _, value in entry.rung.changed] or [""]:  # the plain training's best, too
            best.setdefault(word, entry.rung)
    return set(best.values())


def family(rung: Rung) -> Rung:
    """What a rung shares with those of its family."""
    return replace(rung, gradient_checkpointing=GradientCheckpointing.OFF)


def folded_text(what: str, folded: list[Rung], shown: Iterable[Rung], names: Mapping[Rung, str]) -> str:
    """How many rungs have no line and which they are: `+ 9 more that may fit: 7 like these with gc or gc-offload, 2 of
    other families (zero2+offload)`."""
    lines = {family(rung) for rung in shown}
    like = [rung for rung in folded if family(rung) in lines]
    others = [rung for rung in folded if family(rung) not in lines]
    parts = [(like, f"like these with {_values_text(like)}")] if like else []
    parts += [(others, f"of other families ({_families_text(others, names)})")] if others else []
    texts = [text if part == folded else f"{len(part)} {text}" for part, text in parts]
    return f"{more_text(what, folded)}: {', '.join(texts)}"


def more_text(what: str, folded: Sequence[Rung]) -> str:
    """How many rungs have no line: `+ 9 more that may fit`."""
    return f"+ {len(folded)} more {what}"


def _values_text(rungs: Sequence[Rung]) -> str:
    """The values of checkpointing among `rungs`: `gc-every-2, gc or no gc`."""
    there = {rung.gradient_checkpointing for rung in rungs}
    words = [value.syllable or "no gc" for value in GRADIENT_CHECKPOINTING.values if value.value in there]
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _families_text(rungs: Sequence[Rung], names: Mapping[Rung, str]) -> str:
    """The first rungs of some families by their names."""
    firsts: dict[Rung, str] = {}
    for rung in rungs:
        firsts.setdefault(family(rung), names[rung])
    shown = list(firsts.values())[:_MOST_NAMES]
    return ", ".join(shown + (["…"] if len(firsts) > len(shown) else []))

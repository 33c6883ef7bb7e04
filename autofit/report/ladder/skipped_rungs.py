"""Rungs that are not tried, gathered into one line for each reason."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

from autofit.domain.strategy import Rung
from autofit.domain.trial import Choice
from autofit.domain.units import rough_bytes
from autofit.report.view import View

_TOO_LARGE = "too large"
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_Reasoned = tuple[Rung, str, int | None]  # with the bytes that it is too large by, where it is


@dataclass(frozen=True)
class Skipped:
    """Rungs that share a reason; `reasons` are alike but for their numbers."""

    rungs: tuple[Rung, ...]
    reasons: tuple[str, ...]
    short_bytes: tuple[int, ...] = ()

    def names(self, width: int, settled: str = "") -> str:
        """All the names if they fit, else what they have in common and how many they are; without what is `settled`,
        the end of the names of all that is tried."""
        names = [str(rung).removesuffix(settled) for rung in self.rungs]
        everyone = ", ".join(names)
        if len(names) == 1 or len(everyone) <= width:
            return everyone
        columns = zip(*(rung.values() for rung in self.rungs), strict=True)
        syllables = [_common([value.syllable for _, value in column]) for column in columns]
        shared = [one for one in syllables if one and one not in settled.split("+")]
        count = f"{len(names)} rungs"
        texts = [f"{_joined(shared[start:])} ({count})" for start in range(len(shared))]
        return next((text for text in texts if len(text) <= width), count)

    @property
    def reason(self) -> str:
        if self.short_bytes:
            return f"too large by {_amounts(self.short_bytes)} (predicted)"
        return reduce(_merged, self.reasons)


def _joined(syllables: Sequence[str]) -> str:
    """The syllables as a name has them; a `+` is in front of what does not begin one: `+gc+offload`."""
    return f"{'' if syllables[0].startswith('zero') else '+'}{'+'.join(syllables)}"


def _common(syllables: Sequence[str]) -> str:
    """The syllable that all rungs have of a knob, or how all of its syllables begin: `offload…`; else nothing."""
    first, *others = dict.fromkeys(syllables)
    root = first.partition("-")[0]
    if not others:
        return first
    return f"{root}…" if root and all(one.partition("-")[0] == root for one in others) else ""


def skipped(view: View) -> tuple[Skipped, ...]:
    """What the ladder left out, then what the choice left unprobed; never a rung that was tried."""
    left_out = view.ladder.left_out if view.ladder is not None else ()
    reasons = [(out.rung, out.reason, out.short_bytes) for out in left_out]
    return _by_reason(reasons + _unprobed(view.choice), set(view.tried))


def unprobed(choice: Choice, tried: Iterable[Rung]) -> tuple[Skipped, ...]:
    """What the choice left unprobed, but for what was `tried`, if only as one rank of it."""
    return _by_reason(_unprobed(choice), set(tried))


def _unprobed(choice: Choice | None) -> list[_Reasoned]:
    return [(rest.rung, rest.reason, None) for rest in choice.unprobed] if choice is not None else []


def _by_reason(reasons: Iterable[_Reasoned], seen: set[Rung]) -> tuple[Skipped, ...]:
    """Gathers what is not `seen`, each rung once."""
    groups: dict[str, list[_Reasoned]] = defaultdict(list)
    for rung, reason, short_bytes in reasons:
        if rung not in seen:
            seen.add(rung)
            key = _TOO_LARGE if short_bytes is not None else _NUMBER.sub("#", reason)
            groups[key].append((rung, reason, short_bytes))
    return tuple(_gathered(members) for members in groups.values())


def _gathered(members: Sequence[_Reasoned]) -> Skipped:
    return Skipped(
        rungs=tuple(rung for rung, _, _ in members),
        reasons=tuple(reason for _, reason, _ in members),
        short_bytes=tuple(short for _, _, short in members if short is not None),
    )


def _amounts(sizes_bytes: Sequence[int]) -> str:
    texts = [rough_bytes(size) for size in sizes_bytes]
    if len(texts) <= 2:
        return " and ".join(dict.fromkeys(texts))
    low, high = rough_bytes(min(sizes_bytes)), rough_bytes(max(sizes_bytes))
    return low if low == high else f"{low} to {high}"


def _merged(one: str, other: str) -> str:
    """Two reasons that differ in their numbers, in one: `bound 900` and `bound 7,400` as `bound 900–7,400`."""
    numbers = iter(_NUMBER.findall(other))
    ranges = re.compile(rf"{_NUMBER.pattern}(?:–{_NUMBER.pattern})?")
    return ranges.sub(lambda match: _widened(match.group(), next(numbers)), one)


def _widened(known: str, number: str) -> str:
    ends = sorted({*known.split("–"), number}, key=lambda text: float(text.replace(",", "")))
    return ends[0] if len(ends) == 1 else f"{ends[0]}–{ends[-1]}"

"""Rungs that are not tried, gathered into one line for each reason."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from autofit.domain.strategy import Rung
from autofit.domain.units import rough_bytes
from autofit.report.view import View

_TOO_LARGE = "too large"
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Skipped:
    """Rungs that share a reason; `reasons` are alike but for their numbers."""

    rungs: tuple[Rung, ...]
    reasons: tuple[str, ...]
    short_bytes: tuple[int, ...] = ()

    def names(self, width: int) -> str:
        """All the names if they fit, else what they have in common and how many they are."""
        names = [str(rung) for rung in self.rungs]
        everyone = ", ".join(names)
        if len(names) == 1 or len(everyone) <= width:
            return everyone
        parts = [dict.fromkeys(name.split("+")) for name in names]
        shared = [part for part in parts[0] if all(part in other for other in parts)]
        count = f"{len(names)} rungs"
        plus = "" if shared and shared[0].startswith("zero") else "+"
        text = f"{plus}{'+'.join(shared)} ({count})"
        return text if shared and len(text) <= width else count

    @property
    def reason(self) -> str:
        if self.short_bytes:
            return f"too large by {_amounts(self.short_bytes)} (predicted)"
        return reduce(_merged, self.reasons)


def skipped(view: View) -> tuple[Skipped, ...]:
    """What the ladder left out, then what the choice left unprobed; never a rung that was tried."""
    seen = set(view.tried)
    groups: dict[str, list[tuple[Rung, str, int | None]]] = defaultdict(list)
    for rung, reason, short_bytes in _reasons(view):
        if rung not in seen:
            seen.add(rung)
            key = _TOO_LARGE if short_bytes is not None else _NUMBER.sub("#", reason)
            groups[key].append((rung, reason, short_bytes))
    return tuple(_gathered(members) for members in groups.values())


def _reasons(view: View) -> list[tuple[Rung, str, int | None]]:
    left_out = view.ladder.left_out if view.ladder is not None else ()
    unprobed = view.choice.unprobed if view.choice is not None else ()
    return [(out.rung, out.reason, out.short_bytes) for out in left_out] + [
        (rest.rung, rest.reason, None) for rest in unprobed
    ]


def _gathered(members: Sequence[tuple[Rung, str, int | None]]) -> Skipped:
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

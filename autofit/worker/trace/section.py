"""What happens in one stretch of a trace, and what would happen in it with more layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from autofit.domain.outcome import Phase
from autofit.domain.trace import Work


@dataclass
class Section:
    """What happened between two boundaries; `layer` is None outside the decoder's layers. `turn` numbers the passes
    through the layers: a phase may have several."""

    phase: Phase
    layer: int | None
    levels_bytes: list[int]  # what was held at its start, and after each time that more of it came
    gradient_count: int = 0  # elements of parameters whose gradient was completed here
    work: Work = field(default_factory=Work)
    turn: int = 0

    @property
    def start_bytes(self) -> int:
        return self.levels_bytes[0]

    @property
    def peak_bytes(self) -> int:
        return max(self.levels_bytes)

    def raised(self, by_bytes: int) -> Section:
        return replace(self, levels_bytes=[level + by_bytes for level in self.levels_bytes])


def extend(one: Section, other: Section, times: int) -> Section:
    """The section that differs from `one` as `one` does from `other`, so many times."""
    return replace(
        one,
        levels_bytes=_extend_levels(one.levels_bytes, other.levels_bytes, times),
        gradient_count=one.gradient_count + times * (one.gradient_count - other.gradient_count),
        work=one.work + (one.work - other.work) * times,
    )


def _extend_levels(one: list[int], other: list[int], times: int) -> list[int]:
    """The levels further on along the line through `other` and `one`.

    Those that are alike at the beginning, counted from the first level, stand as much higher as that does; those at the
    end likewise. Between them each level has its own line where both have as many of them; where not, one of them does
    something more often (a loss that goes from layer to layer), and all stand as much higher as the last of them does.
    """
    alike_first, alike_last = _alike(one, other), _alike(one[::-1], other[::-1])
    first_bytes, last_bytes = times * (one[0] - other[0]), times * (one[-1] - other[-1])
    middle, other_middle = (each[alike_first : max(alike_first, len(each) - alike_last)] for each in (one, other))
    if len(middle) == len(other_middle):
        moved = [level + times * (level - like) for level, like in zip(middle, other_middle, strict=True)]
    else:
        rise_bytes = times * (middle[-1] - other_middle[-1]) if middle and other_middle else last_bytes
        moved = [level + rise_bytes for level in middle]
    first, last = one[:alike_first], one[len(one) - alike_last :]
    return [*(level + first_bytes for level in first), *moved, *(level + last_bytes for level in last)]


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many levels, from the first on, stand as high above the first one in both."""
    shortest = min(len(one), len(other))
    return next((at for at in range(shortest) if one[at] - one[0] != other[at] - other[0]), shortest)

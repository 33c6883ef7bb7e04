"""What all layers do, told by what some of them did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autofit.domain.outcome import Phase
from autofit.worker.trace.depth import Depth
from autofit.worker.trace.section import Section, extend


class NotRepeatedError(Exception):
    """Layers that look alike do not do alike."""


def deepen(deep: Sequence[Section], shallow: Sequence[Section] | None, depth: Depth) -> list[Section]:
    """The sections of all layers, told by those of `depth` and, where the number of layers counts for more than what is
    held meanwhile, by those of one period less.

    Everything grows by the same from period to period: what a period keeps for its backward pass, so that the loss, the
    last layers and each layer on the way back stand that much higher, and what a loss takes that looks at all layers.
    Exact but for a peak whose place within a section moves with the depth.
    """
    sections: list[Section] = []
    for phase in (Phase.FORWARD, Phase.BACKWARD, Phase.EVALUATE):
        parts = _parts([section for section in deep if section.phase is phase], depth)
        less = parts.without_upper() if shallow is None else _parts(
            [section for section in shallow if section.phase is phase], depth.shallower()
        )  # fmt: skip
        sections += _deepen_phase(parts, less, depth)
    return sections


@dataclass(frozen=True)
class _Parts:
    """The sections of one phase in the order of time; the way back comes through the upper period first."""

    before: list[Section]
    lower: list[Section]  # the first period
    upper: list[Section]  # the second one, where it ran
    after: list[Section]
    is_backward: bool

    @property
    def kept_bytes(self) -> int:
        """What a period keeps."""
        return self.upper[0].start_bytes - self.lower[0].start_bytes if self.upper else 0

    def without_upper(self) -> _Parts:
        """The parts as they are with one period less."""
        before, after = self.before, self.after
        if self.is_backward:
            before = [section.raised(-self.kept_bytes) for section in before]
        else:
            after = [section.raised(-self.kept_bytes) for section in after]
        return _Parts(before, self.lower, [], after, self.is_backward)


def _parts(sections: list[Section], depth: Depth) -> _Parts:
    kept, first = depth.kept_periods(), depth.first_period()
    inner = [index for index, section in enumerate(sections) if section.layer is not None and section.layer in kept]
    begin, end = (inner[0], inner[-1] + 1) if inner else (len(sections), len(sections))
    between = sections[begin:end]
    lower = [section for section in between if section.layer in first]
    upper = [section for section in between if section.layer not in first]
    is_backward = bool(sections) and sections[0].phase is Phase.BACKWARD
    if between != (upper + lower if is_backward else lower + upper):
        raise NotRepeatedError
    return _Parts(sections[:begin], lower, upper, sections[end:], is_backward)


def _deepen_phase(deep: _Parts, shallow: _Parts, depth: Depth) -> list[Section]:
    times = depth.left_out
    copies = [
        [extend(one, below, turn) for one, below in _pairs(deep.upper, deep.lower)] for turn in range(1, times + 1)
    ]
    periods = [deep.lower, deep.upper, *copies]
    # What is held from the loss on for as long as the way back takes, for each layer that the loss looked at.
    held_bytes = deep.lower[0].start_bytes - shallow.lower[0].start_bytes if deep.lower else 0
    if deep.is_backward:
        periods.reverse()
    inner = [section.raised(held_bytes * times) for period in periods for section in period]
    before, after = (
        [extend(one, other, times) for one, other in _pairs(of_deep, of_shallow)]
        for of_deep, of_shallow in ((deep.before, shallow.before), (deep.after, shallow.after))
    )
    return [*before, *inner, *after]


def _pairs(one: list[Section], other: list[Section]) -> list[tuple[Section, Section]]:
    if len(one) != len(other):
        raise NotRepeatedError
    return list(zip(one, other, strict=True))

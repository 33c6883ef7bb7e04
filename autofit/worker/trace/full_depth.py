"""What all layers do, told by what some of them did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autofit.domain.outcome import Phase
from autofit.worker.trace.depth import KEPT_PERIODS, Depth
from autofit.worker.trace.section import Section, extend


class NotRepeatedError(Exception):
    """Layers that look alike do not do alike."""


def deepen(deep: Sequence[Section], shallow: Sequence[Section] | None, depth: Depth) -> list[Section]:
    """The sections of all layers, told by those of `depth` and, where a loss looks at all layers, by those of one
    period less.

    Everything grows by the same from period to period: what a period keeps for its backward pass, so that the loss, the
    last layers and each layer on the way back stand that much higher, and what such a loss takes and holds for each
    layer. Exact but for a peak whose place within a section moves with the depth.
    """
    sections: list[Section] = []
    there_bytes = 0  # what a period keeps on the way there
    for phase, turn in dict.fromkeys((section.phase, section.turn) for section in deep):
        parts = _parts(deep, turn, depth)
        # The way back has kept what the way there keeps. Its own levels say more where a loss holds something for each
        # layer, and less where the first gradient of something shared is larger than the sums that follow.
        is_as_there = phase is Phase.BACKWARD and shallow is None
        kept_bytes = there_bytes if is_as_there else parts.kept_bytes
        held_bytes = there_bytes if phase is Phase.REFERENCE else 0  # a pass between the two keeps nothing itself
        less = parts.with_less(kept_bytes, held_bytes) if shallow is None else _parts(shallow, turn, depth.shallower())
        sections += _deepen_pass(parts, less, kept_bytes, depth.left_out)
        if phase is Phase.FORWARD:
            there_bytes = kept_bytes
    return sections


@dataclass(frozen=True)
class _Parts:
    """The sections of one pass in the order of time."""

    before: list[Section]
    first: list[Section]  # a period; none where the pass does not go through the periods
    second: list[Section]  # the next one, where it ran
    after: list[Section]
    is_backward: bool  # it comes through the upper period first

    @property
    def lower(self) -> list[Section]:
        return self.second if self.second and self.is_backward else self.first

    @property
    def kept_bytes(self) -> int:
        """What a period keeps."""
        if not self.second:
            return 0
        rise_bytes = self.second[0].start_bytes - self.first[0].start_bytes
        return -rise_bytes if self.is_backward else rise_bytes

    def with_less(self, kept_bytes: int, held_bytes: int) -> _Parts:
        """The parts as they are with one period less, of which `held_bytes` are held throughout."""
        above, below = (0, kept_bytes) if not self.is_backward else (kept_bytes, 0)
        return _Parts(
            [section.raised(-held_bytes - above) for section in self.before],
            [section.raised(-held_bytes) for section in self.lower],
            [],
            [section.raised(-held_bytes - below) for section in self.after],
            self.is_backward,
        )


def _parts(sections: Sequence[Section], turn: int, depth: Depth) -> _Parts:
    own = [section for section in sections if section.turn == turn]
    is_backward = own[0].phase is Phase.BACKWARD
    kept = depth.kept_periods()
    inner = [index for index, section in enumerate(own) if section.layer is not None and section.layer in kept]
    begin, end = (inner[0], inner[-1] + 1) if inner else (len(own), len(own))
    periods = [[section for section in own[begin:end] if section.layer in period] for period in depth.periods()]
    if is_backward:
        periods.reverse()
    first, second = [*periods, []][:2]
    if own[begin:end] != first + second or (depth.kept == KEPT_PERIODS and len(first) != len(second)):
        raise NotRepeatedError
    if second and not is_backward and [one.work for one in first] != [one.work for one in second]:
        raise NotRepeatedError  # layers that take in more, the more of them there were before
    return _Parts(own[:begin], first, second, own[end:], is_backward)


def _deepen_pass(deep: _Parts, less: _Parts, kept_bytes: int, times: int) -> list[Section]:
    # What the loss has left for each layer that it looked at.
    held_bytes = (deep.lower[0].start_bytes - less.lower[0].start_bytes) * times if deep.lower else 0
    rises_bytes = [kept_bytes * turn + held_bytes for turn in range(times + 1)]
    if deep.is_backward:
        rises_bytes.reverse()
    return [
        *_extended(deep.before, less.before, times),
        *(section.raised(rises_bytes[0]) for section in deep.first),
        *(section.raised(rise_bytes) for rise_bytes in rises_bytes for section in deep.second),
        *_extended(deep.after, less.after, times),
    ]


def _extended(deep: list[Section], less: list[Section], times: int) -> list[Section]:
    if len(deep) != len(less):
        raise NotRepeatedError
    return [extend(one, other, times) for one, other in zip(deep, less, strict=True)]

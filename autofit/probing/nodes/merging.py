"""The shares of a probe that several nodes ran, as one group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autofit.domain.deepspeed_line import Layout
from autofit.domain.outcome import Killed, Measured, NodeLost, Outcome, OutOfMemory, SignalCrash, TimedOut
from autofit.probing.protocol import GroupEnded, RankEnd, RankFailed


def merge(groups: Sequence[GroupEnded], clocks_ahead_s: Sequence[float]) -> GroupEnded:
    """Merges groups into one: ranks in their order, failures in the order in which they happened by one clock.

    `clocks_ahead_s` is by how much the clock of each group's node is ahead of that clock.
    """
    ends = [_shifted(end, ahead_s) for group, ahead_s in zip(groups, clocks_ahead_s, strict=True) for end in group.ends]
    silent = next((group for group in groups if group.silent_rank is not None), groups[0])
    return GroupEnded(
        number=groups[0].number,
        ends=tuple(sorted(ends, key=lambda end: end.rank)),
        start_s=max(group.start_s for group in groups),
        total_s=max(group.total_s for group in groups),
        silent_rank=silent.silent_rank,
        silent_s=silent.silent_s,
    )


def _shifted(end: RankEnd, ahead_s: float) -> RankEnd:
    if not isinstance(end.report, RankFailed):
        return end
    return replace(end, report=replace(end.report, at_s=end.report.at_s - ahead_s))


def with_host(outcome: Outcome, layout: Layout) -> Outcome:
    """The end of a rank whose failure names its host, where there are several."""
    if len(layout.hosts) == 1:
        return outcome
    match outcome:
        case Measured() | NodeLost():
            return outcome
        case OutOfMemory():
            return replace(outcome, message=f"{_host_of(outcome.rank, layout)}: {outcome.message}")
        case Killed() | SignalCrash() | TimedOut():
            return replace(outcome, host=_host_of(outcome.rank, layout))
        case _:
            return replace(outcome, why=f"{_host_of(outcome.rank, layout)}: {outcome.why}")


def _host_of(rank: int | None, layout: Layout) -> str:
    assert rank is not None  # of a probe it is known
    return [host.host for host in layout.hosts for _ in host.slots][rank]

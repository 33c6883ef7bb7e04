"""Why an untried rung or strategy needs no probe: what other trials imply of it, speed and chance aside."""

from __future__ import annotations

from collections import Counter

from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import OFFLOAD, Offload
from autofit.domain.strategy import Rung, Strategy

from .dominance import needs_no_less
from .rung_history import RungHistory
from .search_state import SearchState

SAME_COMPLAINTS = 3
"""Rungs of one method that fail in the same words before the method is given up: the fault is not the rung's."""


def exclusion(history: RungHistory, search: SearchState) -> str | None:
    """The reason not to probe any of it; None when there is none."""
    return (
        _implied_by_device(history, search)
        or _implied_by_host(history, search)
        or _implied_by_complaints(history, search)
    )  # fmt: skip


def is_ruled_out(strategy: Strategy, search: SearchState) -> bool:
    return _lighter_failure(strategy, search) is not None


def _implied_by_device(history: RungHistory, search: SearchState) -> str | None:
    failures = [_lighter_failure(strategy, search) for strategy in history.strategies]
    if not all(failures):
        return None
    return f"needs no less than {failures[0]}, which ran out of memory"


def _lighter_failure(strategy: Strategy, search: SearchState) -> Strategy | None:
    """A strategy that was too large although it needs no more; None where its own rehearsal says otherwise."""
    if strategy in search.rehearsed_strategies:
        return None
    memory = search.ladder.estimate(strategy).memory
    for failed in search.too_large_strategies:
        if needs_no_less(strategy, failed, memory, search.ladder.estimate(failed).memory):
            return failed
    return None


def _implied_by_host(history: RungHistory, search: SearchState) -> str | None:
    """What a failure on the host implies. Only offload tells rungs apart there; without it a failure says nothing of
    the other rungs."""
    host_bytes = history.step.estimates[0].memory.host_bytes
    for other in (history for history in search.histories if history.has_failed_on_host):
        is_offload = _moves(other.rung) or other.rung.offload is not Offload.NONE
        if (
            is_offload
            and _moves_no_less(history.rung, other.rung)
            and host_bytes >= other.step.estimates[0].memory.host_bytes
        ):
            return f"needs no less host memory than {other.strategies[0]}, for which it did not suffice"
    return None


def _moves_no_less(rung: Rung, other: Rung) -> bool:
    """Whether all that `other` has in host memory is there with `rung` as well."""
    is_more = OFFLOAD.plainness(rung.offload) >= OFFLOAD.plainness(other.offload)
    return is_more and (_moves(rung) or not _moves(other))


def _moves(rung: Rung) -> bool:
    return rung.gradient_checkpointing is GradientCheckpointing.OFFLOAD


def _implied_by_complaints(history: RungHistory, search: SearchState) -> str | None:
    return search.once((_of_complaints, history.rung.method), lambda: _of_complaints(history.rung.method, search))


def _of_complaints(method: Method, search: SearchState) -> str | None:
    peers = [other for other in search.histories if other.rung.method is method]
    if any(other.speeds or other.too_large_strategies for other in peers):
        return None
    counts = Counter(other.complaint for other in peers if other.complaint is not None)
    words, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    return f"{count} rungs failed in the same way: {words}" if count >= SAME_COMPLAINTS else None

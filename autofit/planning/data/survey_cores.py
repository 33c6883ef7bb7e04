"""The cores that make tokens of the rows: all of them before the search, and beside it those that no rank needs."""

from __future__ import annotations

from dataclasses import dataclass

from autofit.domain.hardware import Hardware

RANK_CORES = 2  # of a rank on a GPU: its own thread, and what feeds it or reduces gradients
_MOST_PROCESSES = 32  # beyond it, who collects the rows is what takes the time


@dataclass(frozen=True)
class SurveyCores:
    """How many processes make rows, and whether they may go on beside probes, whose steps are measured."""

    process_count: int
    is_beside: bool


def survey_cores(hardware: Hardware) -> SurveyCores:
    """The cores of the first node, on which the survey runs. Ranks on a CPU compute on all of them: beside them a
    survey would falsify what they measure, or stand still."""
    node = hardware.nodes[0]
    spare = 0 if hardware.is_cpu else node.host.core_count - RANK_CORES * len(node.devices)
    if spare > 1:
        return SurveyCores(min(spare, _MOST_PROCESSES), is_beside=True)
    return SurveyCores(min(node.host.core_count, _MOST_PROCESSES), is_beside=False)

"""Memory as a line over the micro-batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autofit.domain.outcome import Measured

from .activations import HIGH_FACTOR
from .record import Record

ROW_TRUST = 0.8
"""The share of what one point holds beside states that is taken to grow with its rows."""


@dataclass(frozen=True)
class MemoryLine:
    """Peak device memory = `base_bytes` + `row_bytes` × micro-batch."""

    base_bytes: float
    row_bytes: float

    def bytes_at(self, micro_batch: int) -> float:
        return self.base_bytes + self.row_bytes * micro_batch


def through_points(points: Mapping[int, Measured]) -> MemoryLine:
    """Through the two largest points: a peak is the largest of several lines, so the last stretch is the steepest."""
    one, other = sorted(points)[-2:]
    row_bytes = (points[other].peak_device_bytes - points[one].peak_device_bytes) / (other - one)
    return MemoryLine(points[other].peak_device_bytes - row_bytes * other, row_bytes)


def foreseen_bytes(record: Record, micro_batch: int) -> float:
    """From one point: what was measured and the least that more rows should add.

    A row adds what the point holds beside runtime, states and buffers, within what the closed form may err by.
    """
    ((known, measured),) = record.points.items()
    beside_bytes = measured.peak_device_bytes - measured.base_bytes - record.fixed_bytes
    predicted_bytes = max(1, record.activations_bytes(known))
    factor = min(HIGH_FACTOR, max(1.0, ROW_TRUST * beside_bytes / predicted_bytes))
    return measured.peak_device_bytes + factor * (record.activations_bytes(micro_batch) - predicted_bytes)

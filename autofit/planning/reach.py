"""How fast a measured rung would be with another micro-batch, at best."""

from __future__ import annotations

from collections.abc import Iterable

from autofit.domain.hardware import DeviceKind
from autofit.domain.strategy import Method, Offload, Rung

from .record import Record
from .setting import Setting
from .timing import Timing

HALF_SPEED_TOKENS = {DeviceKind.CUDA: 1024, DeviceKind.CPU: 128}
"""Tokens of a micro-batch at which a device reaches half of its speed at most: matrix units fill up well before."""

TRAFFIC_TOKENS = {DeviceKind.CUDA: 4096, DeviceKind.CPU: 512}
"""The same where each micro-batch also waits for weights or gradients on their way: over PCIe that takes as long as
computing some thousand tokens (2 bytes a parameter at 16 GB/s, 6 operations a parameter and token at 50 TFLOP/s)."""

GROWTH_TRUST = 1.05
"""How much faster one rung may grow with the micro-batch than another did."""


def speed_at(record: Record, micro_batch: int, setting: Setting, known: Iterable[Record] = ()) -> float:
    """Optimistic tokens/s: by its own line through two measured micro-batches; from one by the constants above, or by
    how a rung of `known` with two points and no less traffic grew."""
    points = record.points
    if len(points) > 1:
        return Timing.of(points).tokens_per_s(micro_batch)
    ((rows, measured),) = points.items()
    if micro_batch <= rows:
        return measured.tokens_per_s
    half = _half_speed_tokens(record.rung, setting) / setting.worst_tokens
    by_constants = (1 + half / rows) / (1 + half / micro_batch)
    grown = [_growth(other, rows, micro_batch) for other in known if _is_guide(other, record)]
    return measured.tokens_per_s * min([by_constants, *(GROWTH_TRUST * factor for factor in grown)])


def top_speed(record: Record, limit: int, setting: Setting, known: Iterable[Record] = ()) -> float:
    """The most of any micro-batch up to `limit`."""
    known = tuple(known)
    sizes = [rows for rows in record.candidates if rows <= limit]
    return max(speed_at(record, rows, setting, known) for rows in sizes)


def _growth(guide: Record, low: int, high: int) -> float:
    timing = Timing.of(guide.points)
    return max(1.0, timing.tokens_per_s(high) / timing.tokens_per_s(low))


def _is_guide(guide: Record, record: Record) -> bool:
    return len(guide.points) > 1 and (_has_traffic(guide.rung) or not _has_traffic(record.rung))


def _half_speed_tokens(rung: Rung, setting: Setting) -> int:
    table = TRAFFIC_TOKENS if _has_traffic(rung) else HALF_SPEED_TOKENS
    return table[setting.kind]


def _has_traffic(rung: Rung) -> bool:
    """Whether bytes move for every micro-batch, not only for every step; adapters' gradients are too few to matter."""
    if rung.zero_stage >= 3:
        return True
    return rung.method is Method.FULL and (rung.zero_stage == 2 or rung.offload is not Offload.NONE)

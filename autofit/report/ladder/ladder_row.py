"""One row of the ladder table, before it is laid out."""

from __future__ import annotations

from dataclasses import dataclass

from autofit.domain.units import format_bytes, rough_bytes, rough_speed
from autofit.report.line import Style


@dataclass(frozen=True)
class Row:
    """A rung at one micro-batch: memory and speed, or a message in their place."""

    name: str
    micro_batch: str
    state: str
    style: Style
    memory_bytes: int | None = None
    is_predicted: bool = False
    tokens_per_s: float | None = None
    ratios: tuple[str, ...] = ()  # of a baseline, as `ratios.NAMES`
    message: str = ""

    @property
    def memory_text(self) -> str:
        if self.memory_bytes is None:
            return ""
        return f"~{rough_bytes(self.memory_bytes)}" if self.is_predicted else format_bytes(self.memory_bytes)

    @property
    def tokens_text(self) -> str:
        if self.tokens_per_s is None:
            return ""
        return f"~{rough_speed(self.tokens_per_s)}" if self.is_predicted else f"{self.tokens_per_s:,.0f}"

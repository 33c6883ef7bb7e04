"""Predictions, written no finer than they are known."""

from __future__ import annotations

import re

from autofit.domain.units import format_bytes


def rough_bytes(n_bytes: float) -> str:
    """Two or three significant figures: `53 GB`, `7.4 GB`."""
    return re.sub(r"^(\d\d+)\.\d", r"\1", format_bytes(n_bytes))


def rough_speed(value: float) -> str:
    """Two significant figures: `9,100`."""
    return f"{int(float(f'{value:.1e}')):,}"

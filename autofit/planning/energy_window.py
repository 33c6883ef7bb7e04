"""How long a window must be for an energy counter to be believed."""

from __future__ import annotations

MOST_ERROR = 0.05
"""The relative error beyond which a window's energy is not told."""


def shortest_window_s(period_s: float) -> float:
    """The shortest window that is believed (s), of a counter that is brought up to date every `period_s` seconds: it
    lags by up to a period where the window begins and where it ends, so that the difference errs by a period at most,
    at constant power."""
    return period_s / MOST_ERROR


def is_trusted(window_s: float, period_s: float | None) -> bool:
    """Whether a window is long enough; no window is of a counter that stood still."""
    return period_s is not None and window_s >= shortest_window_s(period_s)

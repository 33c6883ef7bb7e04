"""Whether what a probe measured will hold for a whole training."""

from __future__ import annotations

from autofit.domain.outcome import Measured

HEADROOM = 0.03
"""Of the device's memory, kept free: a training meets more shapes than a probe, and its allocator breaks up. Peaks of
full runs, with their last save, lay up to 2.4 % above their probes' (tiny Llama, two CPU ranks); a probe at 99.6 % of
the limit trained four steps and ran out of memory in the fifth."""


def fits(measured: Measured, device_bytes: int) -> bool:
    """Not if the allocator thrashed to make room, and not if nothing is left for a longer run."""
    return measured.alloc_retries == 0 and measured.peak_device_bytes <= (1 - HEADROOM) * device_bytes

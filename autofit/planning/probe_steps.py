"""The steps of a probe: how many there are at least, and of how many micro-batches."""

from __future__ import annotations

MEMORY_STEPS = 2
"""The steps that come first: Adam's state appears at the first one, ZeRO-3's reuse of gathered parameters at the
second."""

MIN_MEASURED_STEPS = 1  # a long step says as much as many short ones of as many seconds
MAX_MEASURED_STEPS = 12

MEASURE_S = 1.5
"""How long the measured steps should take, all together."""

PROBED_ACCUMULATION = 3
"""The most that a probe accumulates: a first micro-batch that makes the gradients, one that adds to them, one with the
update."""

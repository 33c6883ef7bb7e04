"""How fast DeepSpeed's host Adam is, by published figures."""

from __future__ import annotations

_PUBLISHED_PARAMETERS_PER_S = 4e9
"""1 billion parameters in 0.22 s, 2 in 0.51, 4 in 1.03, 8 in 2.41, 10 in 2.57 s, all cores of a node (Ren et al.,
ZeRO-Offload, 2021, table 4)."""

_PUBLISHED_CORE_COUNT = 48
"""Two Xeon Platinum 8168, those of the DGX-2 nodes of the paper (section 6.1)."""


def host_adam_rate(core_count: int) -> float:
    """Parameters that all cores of a node update in a second.

    In proportion to the cores up to the published machine, no faster beyond it: there memory is the limit. Known error:
    ranks whose threads are not bound to cores were 1.3 times slower (DeepSpeed pull request 7474), and ranks that a
    launcher starts with OMP_NUM_THREADS=1 are slower still.
    """
    return _PUBLISHED_PARAMETERS_PER_S * min(1.0, core_count / _PUBLISHED_CORE_COUNT)

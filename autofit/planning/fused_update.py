"""LOMO and AdaLomo (Lv et al., 2306.09782 and 2310.10195): the update of a parameter within the backward pass."""

from __future__ import annotations

CHUNK_ELEMENTS = 2**22
"""Elements of a parameter that the update holds in fp32 at a time. A copy of a chunk is 16 MiB, so that nothing as
large as an embedding is copied; kernels on larger pieces are hardly faster (a GPU moves one in some 20 µs, and a launch
takes 4)."""

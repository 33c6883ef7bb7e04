"""How an fp32 value goes into a weight of fewer bits.

Rounded to the nearest, a bf16 weight never learns from an update below half of its last place (2^-9 of it). Rounded up
or down by chance, with the value as the mean, it does.
"""

from __future__ import annotations

import hashlib

import torch

_LOW_BITS = 16
_HIGH = -(1 << _LOW_BITS)
"""The bits of an fp32 number that are those of a bf16 one."""


class StochasticRounding:
    """Writes into weights. The chances hang on the seed and on what is written alone, so that nothing of them needs to
    be saved, and ranks that write the same thing write the same numbers."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def write(self, weights: torch.Tensor, values: torch.Tensor, *key: int) -> None:
        """Writes fp32 `values` into `weights` of the same shape; `key` says which, as no other write has it.

        fp32 weights take them as they are. What is not finite stays so.
        """
        if weights.dtype is torch.bfloat16:
            values = self._rounded(values, key)
        if values is not weights:
            weights.copy_(values)

    def _rounded(self, values: torch.Tensor, key: tuple[int, ...]) -> torch.Tensor:
        generator = torch.Generator(values.device).manual_seed(self._number(key))
        bits = torch.randint(1 << _LOW_BITS, values.shape, dtype=torch.int32, device=values.device, generator=generator)
        bits.add_(values.view(torch.int32)).bitwise_and_(_HIGH)
        # A GPU's own NaN has all bits set: one more, and it would be a zero.
        return bits.view(torch.float32).masked_fill_(values.isnan(), torch.nan)

    def _number(self, key: tuple[int, ...]) -> int:
        digest = hashlib.blake2b(repr((self._seed, *key)).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little") >> 1

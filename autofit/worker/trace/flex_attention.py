"""torch's FlexAttention, played on fake tensors: what a GPU compiles is a fused kernel like flash attention's.

It keeps queries, keys, values, the output and the logarithms of the softmax's sums in fp32 for its backward pass
(torch/_higher_order_ops/flex_attention.py, FlexAttentionAutogradOp). The mask of blocks, a few bytes for each block of
128 by 128 scores, is left out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import transformers.integrations.flex_attention as flex_utils
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

from autofit.domain.knobs.attention import Attention
from autofit.worker.trace.autocast import cast
from autofit.worker.trace.replacement import replace_entry, replace_name

_aten = torch.ops.aten


@contextlib.contextmanager
def flex_attention() -> Iterator[None]:
    """Puts the kernel in place until the end of `with`."""
    with contextlib.ExitStack() as stack:
        replace_name(stack, flex_utils, "compile_friendly_flex_attention", _attend)
        replace_entry(stack, ALL_MASK_ATTENTION_FUNCTIONS, Attention.FLEX.value, lambda **_: None)
        yield


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None = None, **_: Any
) -> torch.Tensor:
    """Heads of (rows, heads, tokens, head size). Only the memory-efficient kernel takes narrower values."""
    heads = cast(query, key, value)
    if query.shape[-1] != value.shape[-1]:
        narrow: torch.Tensor = _aten._scaled_dot_product_efficient_attention(*heads, None, True, 0.0, True)[0]
        return narrow
    out: torch.Tensor = _aten._scaled_dot_product_flash_attention(*heads, 0.0, True, False, scale=scale)[0]
    return out

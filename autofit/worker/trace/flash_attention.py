"""The package flash-attn, played on fake tensors: transformers runs its own code down to the package's functions.

What the kernels keep for the backward pass is what flash-attn's autograd functions save: queries, keys, values, the
output and the logarithms of the softmax's sums in fp32 (flash_attn/flash_attn_interface.py, FlashAttnFunc and
FlashAttnVarlenFunc). torch's own copy of the kernels saves the same and has rules for fake tensors.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
import transformers.masking_utils
import transformers.modeling_flash_attention_utils as flash_utils
from torch import nn
from torch.nn import functional

from autofit.domain.knobs.attention import Attention
from autofit.worker.model.support import LARGEST_FLASH_HEAD
from autofit.worker.model.unbuildable import BuildRefused
from autofit.worker.trace.replacement import replace_entry, replace_name

_NAME = Attention.FLASH_2.value
_forward = torch.ops.aten._flash_attention_forward


@contextlib.contextmanager
def flash_attention(is_padded: bool) -> Iterator[None]:
    """Puts the package in place until the end of `with`, as transformers finds it on a GPU.

    `is_padded`: some row is shorter than the others. Then transformers takes padding out before the kernel and puts it
    back afterwards; every position counts as a token in that.
    """
    with contextlib.ExitStack() as stack:
        replace_entry(stack, flash_utils.FLASH_ATTENTION_COMPATIBILITY_MATRIX[2], "general_availability_check", _yes)
        replace_name(stack, flash_utils, "_lazy_imports", _functions)
        replace_name(stack, flash_utils, "_get_unpad_data", _all_tokens)
        replace_name(stack, flash_utils, "_is_packed_sequence", lambda position_ids, batch_size: False)
        masks = transformers.masking_utils.ALL_MASK_ATTENTION_FUNCTIONS
        replace_entry(stack, masks, _NAME, _padding_mask if is_padded else _no_mask)
        replace_name(stack, flash_utils, "_loaded_implementation", None)
        flash_utils.lazy_import_flash_attention(_NAME)  # classes with their own attention take what is loaded
        yield


def lend_to_own_attention(model: nn.Module) -> None:
    """Gives the module of the model's class transformers' entry to flash attention: Falcon's, GPT-J's and GPT-Neo's
    import it only where a GPU is."""
    module = sys.modules[type(model).__module__]
    if not hasattr(module, "_flash_attention_forward"):
        module.__dict__["_flash_attention_forward"] = flash_utils._flash_attention_forward


# --- What transformers asks -------------------------------------------------------------------------------------------


def _yes(kernels_fallback_ok: bool = False) -> bool:
    return True


def _functions(implementation: str | None, *_: Any, **__: Any) -> tuple[Callable[..., Any] | None, ...]:
    """The functions of the package for `implementation`, in the order in which transformers imports them."""
    if implementation != _NAME:
        raise BuildRefused(f"its flash attention is {implementation}, not FlashAttention-2")
    return _attend, _attend, None, flash_utils._pad_input, flash_utils._unpad_input


def _all_tokens(attention_mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """The indices of all positions, the rows' limits and the longest row's tokens."""
    rows, tokens = attention_mask.shape
    return torch.empty(rows * tokens, dtype=torch.int64), torch.empty(rows + 1, dtype=torch.int32), tokens


def _padding_mask(*, kv_length: int, attention_mask: torch.Tensor | None = None, **_: Any) -> torch.Tensor | None:
    return None if attention_mask is None else attention_mask[:, -kv_length:]


def _no_mask(**_: Any) -> None:
    """No mask, as for rows without padding."""


# --- The package's function -------------------------------------------------------------------------------------------


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor | None = None,
    cu_seqlens_k: torch.Tensor | None = None,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    deterministic: bool = False,
) -> torch.Tensor:
    """Plays flash_attn_func, whose heads are (rows, tokens, heads, head size), and flash_attn_varlen_func, whose heads
    are (tokens of all rows, heads, head size) and come with the rows' limits.

    transformers looks at the names of the arguments to see what the package can do. The kernel takes head sizes that
    are multiples of 8: the package pads others, and keeps them so.
    """
    size = q.shape[-1]
    heads: tuple[torch.Tensor, ...] = (q, k, v)
    if size > LARGEST_FLASH_HEAD:
        raise BuildRefused(f"FlashAttention-2 takes heads of at most {LARGEST_FLASH_HEAD}, this model's have {size}")
    if size % 8:
        softmax_scale = softmax_scale or size**-0.5
        heads = tuple(functional.pad(tensor, (0, -size % 8)) for tensor in heads)
    limits = (cu_seqlens_q, cu_seqlens_k, max_seqlen_q or q.shape[1], max_seqlen_k or k.shape[1])
    left, right = (None if edge < 0 else edge for edge in window_size)
    out: torch.Tensor = _forward(
        *heads, *limits, dropout_p, causal, False, scale=softmax_scale, window_size_left=left, window_size_right=right
    )[0]
    return out[..., :size]

"""The dtypes of torch and ours, from the one table of both.

By itself, for a rank of somebody else's script is to import no more of the family than it must.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from autofit.domain.knobs.dtype import ELEMENTS, Dtype

TORCH_DTYPES: Mapping[Dtype, torch.dtype] = {
    dtype: getattr(torch, element.torch_name) for dtype, element in ELEMENTS.items()
}
DTYPES: Mapping[torch.dtype, Dtype] = {torch_dtype: dtype for dtype, torch_dtype in TORCH_DTYPES.items()}
"""Ours by torch's, without those in which nobody trains, such as torch.float64."""

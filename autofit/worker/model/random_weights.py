"""Weights without a meaning that are made where a checkpoint's would be read, for a quantised model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel

from autofit.domain.knobs.attention import Attention

from .loading import build_without_memory, kernels_of

_REACH = 0.02  # of the numbers around 0, as most classes have it by themselves


@dataclass(frozen=True)
class _Drawn:
    """What stands for a tensor in a file: read whole, as transformers does, it is made."""

    outline: torch.Tensor  # without memory
    device: torch.device

    def __getitem__(self, whole: Any) -> torch.Tensor:
        return torch.empty_like(self.outline, device=self.device, requires_grad=False).uniform_(-_REACH, _REACH)


def quantized_model(
    config: PretrainedConfig,
    bits: BitsAndBytesConfig,
    *,
    dtype: torch.dtype,
    attention: Attention,
    device: torch.device,
    scores: bool = False,
) -> PreTrainedModel:
    """The model of random weights, each made on the `device` and quantised there as one that is read would be."""
    outline = build_without_memory(config, scores=scores)
    return type(outline).from_pretrained(
        None,
        config=outline.config,  # of some classes a part of the whole
        state_dict=_drawn(outline, device),
        quantization_config=bits,
        device_map={"": device},
        dtype=dtype,
        attn_implementation=kernels_of(outline.config, attention),
    )


def _drawn(outline: PreTrainedModel, device: torch.device) -> Mapping[str, _Drawn]:
    """Every parameter; what buffers hold the class knows."""
    own, tied = outline.named_parameters(), outline.all_tied_weights_keys
    return {name: _Drawn(tensor, device) for name, tensor in own if name not in tied}

"""The layers of a model whose weights a quantised base keeps in fewer bits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module


def linear_layers(model: PreTrainedModel) -> Iterator[Any]:
    """The layers that transformers' quantisers for bitsandbytes replace (`replace_with_bnb_linear` of 5.23): all linear
    ones but the head, what is tied to the embeddings, the last one, and what the class keeps in fp32. Experts that
    stand in one parameter are none."""
    left_out = [*get_keys_to_not_convert(model), *(model._keep_in_fp32_modules or ())]
    for name, module in model.named_modules():
        is_linear = type(module) is nn.Linear or isinstance(module, Conv1D)
        if is_linear and should_convert_module(name, left_out):
            yield module


def out_features(layer: Any) -> int:
    """The outputs of a linear layer: the rows of its weight once it is quantised."""
    return int(layer.weight.shape[1 if isinstance(layer, Conv1D) else 0])


def linear_rows(model: PreTrainedModel) -> dict[nn.Parameter, int]:
    """The rows of each weight that can be quantised."""
    return {layer.weight: out_features(layer) for layer in linear_layers(model)}

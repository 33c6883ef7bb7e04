"""The layers of a model whose weights a quantised base keeps in fewer bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import get_keys_to_not_convert
from transformers.quantizers.quantizers_utils import should_convert_module

from autofit.inputs.snapshot import local_options


def linear_layers(model: PreTrainedModel) -> Iterator[Any]:
    """The layers that transformers' quantisers for bitsandbytes replace (`replace_with_bnb_linear` of 5.23): all linear
    ones but the head, what is tied to the embeddings, the last one, and what the class keeps in fp32; of a model that
    is stored quantised all but those that its configuration names. Experts that stand in one parameter are none."""
    stored = _stored(model.config).get("llm_int8_skip_modules")
    left_out = [*(get_keys_to_not_convert(model) if stored is None else stored), *(model._keep_in_fp32_modules or ())]
    for name, module in model.named_modules():
        is_linear = type(module) is nn.Linear or isinstance(module, Conv1D)
        if is_linear and should_convert_module(name, left_out):
            yield module


def _stored(config: PretrainedConfig) -> Mapping[str, Any]:
    """How the weights of the model are stored quantised, by its config.json, of which `load_config` has left it out;
    empty where they are not."""
    if not config.name_or_path:
        return {}
    values, _ = PretrainedConfig.get_config_dict(config.name_or_path, **local_options(config.name_or_path))
    return values.get("quantization_config") or {}


def has_wide_scales(config: PretrainedConfig) -> bool:
    """Whether they are stored in 4 bits, with scales that were not quantised in their turn."""
    stored = _stored(config)
    return bool(stored.get("load_in_4bit")) and not stored.get("bnb_4bit_use_double_quant")


def out_features(layer: Any) -> int:
    """The outputs of a linear layer: the rows of its weight once it is quantised."""
    return int(layer.weight.shape[1 if isinstance(layer, Conv1D) else 0])


def linear_rows(model: PreTrainedModel) -> dict[nn.Parameter, int]:
    """The rows of each weight that can be quantised."""
    return {layer.weight: out_features(layer) for layer in linear_layers(model)}

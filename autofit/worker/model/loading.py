"""A model without weights or with them, and its tokenizer."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Mxfp4Config,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from autofit.domain.knobs.attention import Attention

_REMOTE_PACKAGE = "transformers_modules"  # where transformers puts code that lies beside weights


def build_model(config: PretrainedConfig, *, dtype: torch.dtype, attention: Attention) -> PreTrainedModel:
    """The model with random weights; code of its own runs where `config` came from such code, which was allowed."""
    is_remote = type(config).__module__.startswith(_REMOTE_PACKAGE)
    return AutoModelForCausalLM.from_config(
        config, dtype=dtype, attn_implementation=attention.value, trust_remote_code=is_remote
    )


def load_tokenizer(model: str, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)


def load_model(model: str, *, dtype: torch.dtype, trust_remote_code: bool, **options: Any) -> PreTrainedModel:
    """The model of a folder or a hub id in `dtype`, with plain weights where it is stored in mxfp4.

    Under ZeRO-3 transformers divides them while it loads.
    """
    is_made_plain = _is_mxfp4(model)
    if is_made_plain:
        options["quantization_config"] = Mxfp4Config(dequantize=True)
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=dtype, trust_remote_code=trust_remote_code, **options)
    if is_made_plain:  # else they would be saved plain under the names of quantised ones, which nothing loads
        loaded._weight_conversions = None
    return loaded


def _is_mxfp4(model: str) -> bool:
    values, _ = PretrainedConfig.get_config_dict(model)
    quantization = values.get("quantization_config") or {}
    return bool(quantization.get("quant_method") == "mxfp4")

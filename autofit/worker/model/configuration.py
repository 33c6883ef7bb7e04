"""The configuration of a request's model, once it is known that autofit can train it."""

from __future__ import annotations

from typing import Any

import transformers
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PretrainedConfig

from autofit.domain.errors import UsageError

_AUTO_CLASS = "AutoModelForCausalLM"


def load_config(model: str, *, trust_remote_code: bool) -> PretrainedConfig:
    """The configuration of a folder or a hub id, of the model as it is trained: quantised weights are made plain.

    UsageError, before any code beside the weights runs, for what autofit cannot train, with what to do.
    """
    values = _values(model)
    if values.get("model_type") not in CONFIG_MAPPING:
        _check_code(model, values, trust_remote_code=trust_remote_code)
    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
    except Exception as error:  # a class of any make reads it, and raises what it likes
        raise UsageError(f"the config.json of {model} cannot be read: {first_line(error)}") from error
    if config.is_encoder_decoder:
        raise UsageError(f"{model} is an encoder-decoder ({config.model_type}): {_INSTEAD}.")
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        _check_code(model, values, trust_remote_code=trust_remote_code)
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config  # only those that transformers loads as plain weights come so far
    return config


def first_line(error: Exception) -> str:
    """What a library says of an error, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


_INSTEAD = (
    "autofit trains models that predict the next token, so choose one whose config.json names an architecture that "
    "ends in ForCausalLM"
)


def _values(model: str) -> dict[str, Any]:
    try:
        values, _ = PretrainedConfig.get_config_dict(model)
    except (OSError, ValueError) as error:
        raise UsageError(f"the model {model} cannot be read: {first_line(error)}") from error
    return dict(values)


def _check_code(model: str, values: dict[str, Any], *, trust_remote_code: bool) -> None:
    """Refuses what transformers has no causal language model for, unless its own code may run."""
    model_type, version = values.get("model_type"), transformers.__version__
    if _AUTO_CLASS in (values.get("auto_map") or {}):
        if not trust_remote_code:
            raise UsageError(
                f"{model} brings code of its own beside its weights, and none of it has run: read it, and allow it "
                "with --trust-remote-code."
            )
    elif model_type in CONFIG_MAPPING:
        raise UsageError(
            f"{model} is a {model_type}, which AutoModelForCausalLM of transformers {version} does not take: "
            f"{_INSTEAD}."
        )
    else:
        raise UsageError(
            f"{model} is of the type {model_type}, which transformers {version} does not know: install a newer "
            "transformers, or choose another model."
        )

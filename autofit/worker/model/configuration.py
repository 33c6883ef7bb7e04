"""The configuration of a request's model, once it is known that autofit can train it."""

from __future__ import annotations

from typing import Any

import transformers
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PretrainedConfig

from autofit.domain.errors import UsageError
from autofit.inputs.snapshot import local_options

from .heads import score_once
from .unbuildable import first_sentence

_AUTO_CLASS = "AutoModelForCausalLM"


def load_config(model: str, *, trust_remote_code: bool, scores: bool = False) -> PretrainedConfig:
    """The configuration of a folder or a hub id, of the model as it is trained: quantised weights are made plain, and
    where it `scores` its head gives one number.

    UsageError, before any code beside the weights runs, for what autofit cannot train, with what to do.
    """
    values = _values(model)
    if values.get("model_type") not in CONFIG_MAPPING:
        _check_code(model, values, trust_remote_code=trust_remote_code)
    try:
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code, **local_options(model))
    except Exception as error:  # a class of any make reads it, and raises what it likes
        why = first_sentence(error) or "it is not what its class expects"
        raise UsageError(f"the config.json of {model} cannot be read: {why}.") from error
    if config.is_encoder_decoder:
        raise UsageError(f"{model} is an encoder-decoder ({config.model_type}): {_INSTEAD}.")
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        _check_code(model, values, trust_remote_code=trust_remote_code)
    if scores:
        score_once(config, model)
    if getattr(config, "quantization_config", None) is not None:
        del config.quantization_config  # only those that transformers loads as plain weights come so far
    return config


def told(config: PretrainedConfig, name: str) -> int:
    """The number of this name in a configuration, the largest where layers differ in it; 0 where there is none."""
    try:
        values = [getattr(config, name, None)]
    except RuntimeError:  # transformers' own: layers differ, and the whole has none
        values = [getattr(layer, name, None) for layer in config.per_layer_config]
    return max((value for value in values if type(value) is int), default=0)


def check_padding(model: str, config: PretrainedConfig, error: Exception) -> None:
    """Checks the config's padding token where the model cannot be built: torch refuses an embedding without its row.
    UsageError with both numbers."""
    text = config.get_text_config()
    padding, count = getattr(text, "pad_token_id", None), getattr(text, "vocab_size", None)
    if isinstance(padding, int) and count is not None and not -count <= padding < count:
        raise UsageError(
            f"pad_token_id {padding:,} in the config of {model} is beyond its embedding, which holds {count:,}; set it "
            "to null, or to a token that the embedding holds."
        ) from error


_INSTEAD = (
    "autofit trains models that predict the next token, so choose one whose config.json names an architecture that "
    "ends in ForCausalLM"
)


def _values(model: str) -> dict[str, Any]:
    try:
        values, _ = PretrainedConfig.get_config_dict(model, **local_options(model))
    except (OSError, ValueError) as error:
        why = first_sentence(error) or "its config.json is not found"
        raise UsageError(f"the model {model} cannot be read: {why}.") from error
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
    elif model_type is None:
        raise UsageError(f"the config.json of {model} names no model_type: add the one of its family.")
    else:
        raise UsageError(
            f"{model} is of the type {model_type}, which transformers {version} does not know: install a newer "
            "transformers, or choose another model."
        )

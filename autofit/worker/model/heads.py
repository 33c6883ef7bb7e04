"""What a model gives at its end: a number for each word, or, where it scores answers, one number."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import transformers
from torch import nn
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from autofit.domain.errors import UsageError

_WORDS = (r"^lm_head\.", r"^embed_out\.")
"""The heads for words of transformers' classes, as its checkpoints name them."""


def auto_class(*, scores: bool) -> Any:
    """The class of transformers that builds and loads models with the head for words, or with the one that scores."""
    return AutoModelForSequenceClassification if scores else AutoModelForCausalLM


def score_once(config: PretrainedConfig, name: str) -> None:
    """Has the configuration ask for a head of one number; UsageError where the family has no class with such a head."""
    own = getattr(config, "auto_map", None) or {}
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING and _auto_name() not in own:
        raise UsageError(
            f"{name} cannot become a reward model: transformers {transformers.__version__} has no class "
            f"{config.model_type} with a head for scores (ForSequenceClassification); choose a model of a family that "
            "has one, such as Llama, Qwen3 or OPT."
        )
    config.num_labels = 1


def scoring_head(model: PreTrainedModel) -> dict[str, nn.Module]:
    """What a model that scores has beside its body, by the names in it: the modules that no causal model's checkpoint
    has weights for."""
    body = model.base_model
    return {name: module for name, module in model.named_children() if module is not body and list(module.parameters())}


@contextlib.contextmanager
def new_head(config: PretrainedConfig) -> Iterator[None]:
    """Has transformers say nothing, until the end of `with`, of a scoring head that a causal model's checkpoint has no
    weights for, nor of the head for words that it has: the one is trained, the other left out. The first is initialized
    all the same.

    Only the class itself is told: transformers adds up what its own and its parts' classes let pass.
    """
    kind = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), None)
    if kind is None:  # code beside the weights loads it
        yield
        return
    let_pass = {
        "_keys_to_ignore_on_load_missing": [rf"^(?!{kind.base_model_prefix}\.)"],
        "_keys_to_ignore_on_load_unexpected": list(_WORDS),
    }
    with contextlib.ExitStack() as stack:
        for name, patterns in let_pass.items():
            stack.callback(setattr, kind, name, getattr(kind, name))
            setattr(kind, name, [*(getattr(kind, name) or ()), *patterns])
        yield


def _auto_name() -> str:
    return str(AutoModelForSequenceClassification.__name__)

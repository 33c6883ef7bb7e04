"""A model as its class builds it, on the meta device: counted, and asked what it can do."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from autofit.domain.errors import UsageError
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.method import METHOD, Method
from autofit.domain.model import ModelFacts, ParameterGroup
from autofit.domain.request import ALL_LINEAR, AUTO_TARGETS, Request

from .adapters import with_adapters
from .configuration import first_line, load_config
from .loading import build_model
from .positions import positions_of
from .support import lacking, lacks
from .targets import lora_targets

_USUAL_NAMES = (
    "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
    "max_position_embeddings", "vocab_size",
)  # fmt: skip


def describe(request: Request) -> ModelFacts:
    """What the class of the request's model says of it; UsageError, with what to do, for what cannot be trained."""
    config = load_config(request.model, trust_remote_code=request.trust_remote_code)
    model = _built(request.model, config)
    facts = ModelFacts(
        json.dumps(_filled(config), allow_nan=False), groups(model), positions_of(model), lacking=lacking(model)
    )
    return _adapted(facts, model, request)


def groups(model: nn.Module) -> tuple[ParameterGroup, ...]:
    """The parameters of a model in groups of equal ones; tied ones count once."""
    counts = Counter((p.numel(), p.requires_grad, p.element_size()) for p in model.parameters())
    return tuple(
        ParameterGroup(elements, number, is_trained, n_bytes)
        for (elements, is_trained, n_bytes), number in sorted(counts.items())
    )


def _built(name: str, config: PretrainedConfig) -> PreTrainedModel:
    """The model without memory, with the attention that every class has."""
    try:
        with _quiet(), torch.device("meta"):
            return build_model(config, dtype=torch.bfloat16, attention=Attention.EAGER)
    except Exception as error:  # a class of any make is built, and raises what it likes
        raise UsageError(f"the model {name} cannot be built: {first_line(error)}") from error


def _adapted(facts: ModelFacts, model: PreTrainedModel, request: Request) -> ModelFacts:
    """The facts with those of LoRA; UsageError for modules that the user named and that are not there."""
    try:
        targets = lora_targets(request.lora, model)
        with _quiet():
            adapted = groups(with_adapters(model, request.lora))
    except ValueError as error:
        why = first_line(error)
        words = (*request.lora.target_modules, *request.lora.exclude_modules)
        if set(words) - {AUTO_TARGETS, ALL_LINEAR} and request.pins.of(METHOD) is not Method.FULL:
            raise UsageError(f"--lora-target-modules {','.join(words)}: {why}.") from error
        return replace(facts, lacking=(*facts.lacking, lacks(METHOD, Method.LORA, why)))
    return replace(facts, lora_targets=targets, adapted=adapted)


def _filled(config: PretrainedConfig) -> dict[str, Any]:
    """The language model's configuration under the usual names, with what its class fills in."""
    text = config.get_text_config()
    usual = {name: getattr(text, name, None) for name in _USUAL_NAMES}
    plain = {name: value for name, value in text.to_dict().items() if isinstance(value, (int, str, bool))}
    named = {name: value for name, value in usual.items() if isinstance(value, int)}
    return {**plain, **named, "model_type": config.model_type}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what libraries say of a model that is not there
        yield

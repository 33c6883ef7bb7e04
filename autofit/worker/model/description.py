"""A model as its class builds it, on the meta device: counted, and asked what it can do."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from autofit.domain.errors import UsageError
from autofit.domain.knobs.method import METHOD, Method
from autofit.domain.model import ModelFacts
from autofit.domain.request import ALL_LINEAR, AUTO_TARGETS, Lora, Request

from .adapters import with_adapters
from .configuration import check_padding, load_config, told
from .decoder import decoder_layers
from .kernel_packages import kernel_packages
from .linear_layers import has_wide_scales, linear_rows
from .loading import build_without_memory
from .loss_names import why_no_loss
from .parameter_groups import parameter_groups
from .positions import positions_of
from .support import lacking, lacks
from .targets import lora_targets
from .unbuildable import BuildRefused, building

_USUAL_NAMES = (
    "num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
    "max_position_embeddings", "vocab_size",
)  # fmt: skip


def describe(request: Request) -> ModelFacts:
    """What the class of the request's model says of it; UsageError, with what to do, for what cannot be trained.

    What torch raises of tensors without memory comes through: it says nothing of the real model.
    """
    scores = request.task.traits.scores
    config = load_config(request.model, trust_remote_code=request.trust_remote_code, scores=scores)
    model = _built(request.model, config, scores)
    if not scores and (why := why_no_loss(model)) is not None:
        raise UsageError(f"{request.model} is not trained as it would have to be: {why}.")
    facts = ModelFacts(
        json.dumps(_filled(model), allow_nan=False),
        parameter_groups(model, linear_rows(model)),
        positions_of(model),
        lacking=lacking(model, scores=scores),
        kernel_packages=kernel_packages(model),
        has_wide_scales=has_wide_scales(config),
    )
    return _adapted(facts, model, request)


def _built(name: str, config: PretrainedConfig, scores: bool) -> PreTrainedModel:
    """The model without memory; UsageError with what its class objects to."""
    try:
        with building(f"the model {name}"), _quiet():
            return build_without_memory(config, scores=scores)
    except BuildRefused as error:
        check_padding(name, config, error)
        raise UsageError(f"{error}.") from error


def _adapted(facts: ModelFacts, model: PreTrainedModel, request: Request) -> ModelFacts:
    """The facts with those of LoRA; UsageError for modules that the user named and that are not there."""
    try:
        targets = lora_targets(request.lora, model)
        with building("the adapters"), _quiet():
            rows = linear_rows(model)
            adapted = parameter_groups(with_adapters(model, request.lora, scores=request.task.traits.scores), rows)
    except (ValueError, BuildRefused) as error:
        if _names_modules(request.lora) and request.pins.of(METHOD) is not Method.FULL:
            raise UsageError(f"{_flags(request.lora)}: {error}.") from error
        return replace(facts, lacking=(*facts.lacking, lacks(METHOD, Method.LORA, str(error))))
    return replace(facts, lora_targets=targets, adapted=adapted)


def _names_modules(lora: Lora) -> bool:
    return bool({*lora.target_modules, *lora.exclude_modules} - {AUTO_TARGETS, ALL_LINEAR})


def _flags(lora: Lora) -> str:
    excluded = f" --lora-exclude-modules {','.join(lora.exclude_modules)}" if lora.exclude_modules else ""
    return f"--lora-target-modules {','.join(lora.target_modules)}{excluded}"


def _filled(model: PreTrainedModel) -> dict[str, Any]:
    """The language model's configuration under the usual names, with what its class fills in."""
    text, embedding = model.config.get_text_config(), model.get_input_embeddings()
    built = {
        "num_hidden_layers": len(decoder_layers(model)),
        "hidden_size": embedding.embedding_dim,
        "vocab_size": embedding.num_embeddings,
    }
    plain = {name: value for name, value in text.to_dict().items() if isinstance(value, (int, str, bool))}
    named = {name: value for name in _USUAL_NAMES if (value := told(text, name))}
    return {**built, **plain, **named, "model_type": model.config.model_type}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what libraries say of a model that is not there
        yield

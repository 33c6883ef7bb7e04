"""A model's shape from its config.json, in every family's spelling, and its parameter count by formula."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from autofit.domain.errors import UsageError
from autofit.domain.knobs.quantization import Quantization
from autofit.domain.model import ModelFacts, ModelShape

from .config_values import (
    EXPERTS,
    HEADS,
    HIDDEN,
    INTERMEDIATE,
    KEY_VALUE_HEADS,
    LAYERS,
    POSITIONS,
    VOCABULARY,
    check_values,
)
from .packed_weights import packing

Config = Mapping[str, Any]

# Kinds whose weights hold no head that predicts the next token: transformers would make one of random weights.
_OTHER_KINDS = (
    "ForMaskedLM", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice",
    "ForNextSentencePrediction", "ForImageClassification", "ForSpeechSeq2Seq", "ForCTC", "EncoderModel",
)  # fmt: skip
_INSTEAD = "choose one whose config.json names an architecture that ends in ForCausalLM."

LOADED_PLAIN = "mxfp4"
"""How weights may be stored quantised: transformers makes plain ones of these while it loads."""

_BITS = "bitsandbytes"

_PLAIN_MLP_FAMILIES = (
    "gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "opt", "bloom", "falcon", "codegen", "mpt", "phi",
    "starcoder2", "persimmon", "nemotron",
)  # fmt: skip
_LEARNED_POSITION_FAMILIES = ("gpt2", "gpt_neo", "gpt_bigcode", "opt")


@dataclass(frozen=True)
class _Experts:
    """A feed-forward part made of experts; a dense one is a single expert that every token meets."""

    count: int
    per_token_count: int
    width: int
    shared_width: int


def read_shape(name: str, config: Config, counted: int | None) -> ModelShape | None:
    """The shape that `config` describes, with `counted` parameters, or as many as the formula gives when None.

    `intermediate_size` is the feed-forward width that one token meets: of a mixture of experts, those it is sent to.
    None where the configuration is silent on a size that the model's class fills in.
    """
    text = {**config, **(config.get("text_config") or {})}
    layers, hidden, vocabulary = (_first(text, spellings) for spellings in (LAYERS, HIDDEN, VOCABULARY))
    heads = _first(text, HEADS) or _headless(text)
    if layers is None or hidden is None or vocabulary is None or heads is None:
        return None
    experts = _experts(text, hidden)
    shape = ModelShape(
        name=name,
        model_type=str(config.get("model_type") or "unknown"),
        layer_count=layers,
        hidden_size=hidden,
        head_count=heads,
        key_value_head_count=_key_value_heads(text, heads),
        head_size=_first(text, ("head_dim",)) or max(1, hidden // heads),
        intermediate_size=experts.per_token_count * experts.width + experts.shared_width,
        vocabulary_size=vocabulary,
        parameter_count=counted or 0,
        max_positions=_first(text, POSITIONS),
        is_counted_exactly=bool(counted),
    )
    return shape if counted else _with_formula(shape, text, experts)


def described_shape(name: str, facts: ModelFacts) -> ModelShape:
    """The shape by what the model's class says, counted exactly."""
    filled = json.loads(facts.config)
    shape = read_shape(name, {"num_attention_heads": 1, **filled}, facts.parameter_count)
    if shape is None:
        raise UsageError(
            f"The configuration of {name} tells neither its layers nor its sizes under any usual name: it cannot be "
            "planned for."
        )
    return shape


def check_kind(name: str, config: Config) -> None:
    """Checks what config.json alone can tell; UsageError for what is neither a causal language model that can be
    trained nor one that scores texts, and for a value that is not what its key means."""
    check_values(name, config)
    architectures = [str(architecture) for architecture in config.get("architectures") or ()]
    other = next((one for one in architectures if one.endswith(_OTHER_KINDS) or _is_bare(one)), None)
    if other is not None:
        raise UsageError(f"{name} is a {other}, not a causal language model: {_INSTEAD}")
    if config.get("is_encoder_decoder") is True:
        raise UsageError(f"{name} is an encoder-decoder ({config.get('model_type')}): {_INSTEAD}")
    method = quantization_method(config)
    is_known = method in (None, LOADED_PLAIN) or packing(config) or stored_quantization(config)
    if not is_known:
        raise UsageError(
            f"{name} is stored quantised ({method}), which autofit cannot read, whatever is installed: it reads plain "
            "weights, bitsandbytes, mxfp4, GPTQ of 2, 4 or 8 bits and AWQ of 4 (gemm). Name the model that it was made "
            "from, with --quantize nf4 to keep it in 4 bits."
        )


def quantization_method(config: Config) -> str | None:
    """How the weights are stored quantised; None where they are plain."""
    quantization = config.get("quantization_config")
    if not quantization:
        return None
    if not isinstance(quantization, dict):
        return "unnamed"
    is_bits = quantization.get("load_in_4bit") or quantization.get("load_in_8bit")
    return str(quantization.get("quant_method") or (_BITS if is_bits else "unnamed"))


def stored_quantization(config: Config) -> Quantization | None:
    """What bitsandbytes has made of the weights, which are trained on as they are; None where it has not. Its other
    numbers of 4 bits take what NF4 does."""
    if quantization_method(config) != _BITS:
        return None
    return Quantization.INT8 if config["quantization_config"].get("load_in_8bit") else Quantization.NF4


def _is_bare(architecture: str) -> bool:
    """Whether it is a body without a head, as published for embeddings."""
    return architecture.endswith("Model") and not architecture.endswith("LMHeadModel")


def _headless(config: Config) -> int | None:
    """One head for what has no attention, such as a state space model: its own configuration says so."""
    return 1 if _first(config, ("state_size", "ssm_state_size")) is not None else None


def _with_formula(shape: ModelShape, config: Config, experts: _Experts) -> ModelShape:
    """The shape with the matrices of a Llama-like decoder counted: attention, feed-forward, norms, embeddings.

    Biases are left out, as are a router's and a learned position's extras beyond one matrix. Within 0.2 % for Llama,
    Mistral, Mixtral, Qwen, Gemma, GPT-2, GPT-NeoX and OPT; far off where attention is compressed (DeepSeek), where
    only some layers have experts, or where layers are not attention at all.
    """
    hidden, head = shape.hidden_size, shape.head_size
    attention = 2 * hidden * head * (shape.head_count + shape.key_value_head_count)
    matrices = 2 if shape.model_type in _PLAIN_MLP_FAMILIES else 3  # up and down; a gate beside them
    feed_forward = matrices * hidden * (experts.count * experts.width + experts.shared_width)
    router = hidden * experts.count if experts.count > 1 else 0
    layers = shape.layer_count * (attention + feed_forward + router + 2 * hidden)
    # Where config.json is silent, transformers ties the embeddings.
    vocabularies = 1 if config.get("tie_word_embeddings", True) else 2
    positions = shape.max_positions or 0 if shape.model_type in _LEARNED_POSITION_FAMILIES else 0
    total = layers + hidden * (vocabularies * shape.vocabulary_size + positions + 1)
    return replace(shape, parameter_count=total)


def _experts(config: Config, hidden: int) -> _Experts:
    dense_width = _first(config, INTERMEDIATE) or 4 * hidden
    count = _first(config, EXPERTS)
    if count is None:
        return _Experts(1, 1, dense_width, 0)
    width = _first(config, ("moe_intermediate_size",)) or dense_width
    shared_width = _first(config, ("shared_expert_intermediate_size",))
    shared_count = _first(config, ("n_shared_experts",)) or 0
    per_token_count = _first(config, ("num_experts_per_tok", "num_experts_per_token")) or count
    return _Experts(count, per_token_count, width, shared_width or shared_count * width)


def _key_value_heads(config: Config, heads: int) -> int:
    # Falcon and StarCoder share one key-value head between all, unless Falcon's newer decoder says how many.
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        return 1
    nested = _first(config.get("attn_config") or {}, ("kv_n_heads",))
    return _first(config, KEY_VALUE_HEADS) or nested or heads


def _first(config: Config, spellings: tuple[str, ...]) -> int | None:
    values = (config.get(spelling) for spelling in spellings)
    return next((value for value in values if type(value) is int and value > 0), None)

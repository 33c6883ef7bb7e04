"""Whether the values of a config.json are of the kinds that their keys mean: each wrong one is a sentence with its
key."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from autofit.domain.errors import UsageError

LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
HIDDEN = ("hidden_size", "n_embd", "d_model")
VOCABULARY = ("vocab_size",)
HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")
KEY_VALUE_HEADS = ("num_key_value_heads", "num_kv_heads", "n_head_kv")
INTERMEDIATE = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")

_WIDTHS = ("head_dim", "moe_intermediate_size", "shared_expert_intermediate_size", "n_shared_experts", "num_labels")
_CHOSEN = ("num_experts_per_tok", "num_experts_per_token")
_WHOLE = (*LAYERS, *HIDDEN, *VOCABULARY)
_BY_LAYER = (*HEADS, *KEY_VALUE_HEADS, *INTERMEDIATE, *EXPERTS, *POSITIONS, *_WIDTHS, *_CHOSEN)
"""Sizes that some families give as a list, one for each layer, or as 0 for none."""

_OBJECTS = (
    "text_config", "rope_scaling", "rope_parameters", "quantization_config", "attn_config", "auto_map", "id2label",
)  # fmt: skip
_TEXTS = ("model_type", "torch_dtype", "dtype")
_LARGEST = 2**31 - 1  # of a tensor's dimension, as kernels count it


def check_values(name: str, config: Mapping[str, Any]) -> None:
    """Checks the values that autofit reads; a key that is null or not there is left to the model's class. UsageError
    names the first that is wrong."""
    text = config.get("text_config")
    for where, part in (("", config), ("text_config.", text if isinstance(text, Mapping) else {})):
        for key, what in _faults(part):
            raise UsageError(
                f"The config.json of {name}: {where}{key} is {_shown(part[key])}, not {what}: set it right, or "
                "download it again."
            )


def _faults(part: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    kinds: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
        (_OBJECTS, _is_object, "an object"),
        (_WHOLE, lambda value: _is_size(value, least=1), f"a whole number from 1 to {_LARGEST:,}"),
        (_BY_LAYER, _is_size_by_layer, f"a whole number from 0 to {_LARGEST:,}"),
        (("architectures",), _are_words, "a list of names"),
        (_TEXTS, _is_word, "a name"),
    )
    for keys, is_right, what in kinds:
        yield from ((key, what) for key in keys if part.get(key) is not None and not is_right(part[key]))


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_size(value: Any, *, least: int) -> bool:
    return type(value) is int and least <= value <= _LARGEST


def _is_size_by_layer(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(one is None or _is_size(one, least=0) for one in values)


def _is_word(value: Any) -> bool:
    """Whether it is text that can be shown: half a character cannot."""
    return isinstance(value, str) and value.isprintable()


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and all(_is_word(one) for one in value)


def _shown(value: Any) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."

"""A model's folder: config.json, the headers of its weights, their index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autofit.domain.errors import UsageError
from autofit.inputs.found_model import describe
from autofit.inputs.json_text import read_object
from autofit.inputs.model_files import read_model_files
from autofit.inputs.weights import read_tensors

from .junk import VALUES, changed, clean, damaged, json_bytes

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": None, "intermediate_size": 128, "vocab_size": 512,
    "max_position_embeddings": 2048, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    "rope_scaling": {"rope_type": "yarn", "factor": 2.0}, "rope_parameters": None, "quantization_config": None,
    "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_shared_experts": 1,
    "text_config": {"hidden_size": 64}, "auto_map": {"AutoModelForSequenceClassification": "m.C"},
    "id2label": {"0": "a"}, "num_labels": 1, "attn_config": {"kv_n_heads": 1}, "multi_query": False, "state_size": 16,
    "is_encoder_decoder": False,
}  # fmt: skip
HEADER = {
    "__metadata__": {"format": "pt"},
    "model.embed_tokens.weight": {"dtype": "BF16", "shape": [4, 2], "data_offsets": [0, 16]},
}
INDEX = {"metadata": {"total_size": 16}, "weight_map": {"model.embed_tokens.weight": "model.safetensors"}}


def packed(header: bytes, length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + b"\0" * 16


@given(changed(CONFIG))
def test_a_config_of_odd_values(config: Any) -> None:
    if isinstance(config, dict):
        clean(lambda: describe("m", config, None))


@given(st.sampled_from(sorted(CONFIG)), VALUES)
def test_an_odd_value_of_each_key(key: str, value: Any) -> None:
    said = clean(lambda: describe("m", {**CONFIG, key: value}, None))
    if isinstance(said, str) and said.startswith("The config.json of m: "):
        assert key in said


@given(damaged(json_bytes(CONFIG)))
def test_a_damaged_config(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    said = clean(lambda: read_model_files(str(tmp_path), needs_weights=False))
    assert not isinstance(said, str) or str(tmp_path) in said


@given(st.one_of(changed(HEADER).map(json_bytes), damaged(json_bytes(HEADER))), st.none() | st.integers(0, 2**64 - 1))
def test_a_damaged_header_of_weights(tmp_path: Path, header: bytes, length: int | None) -> None:
    (tmp_path / "model.safetensors").write_bytes(packed(header, length))
    said = clean(lambda: read_tensors(tmp_path))
    assert not isinstance(said, str) or str(tmp_path / "model.safetensors") in said


@given(st.one_of(changed(INDEX).map(json_bytes), damaged(json_bytes(INDEX))))
def test_a_damaged_index_of_weights(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors.index.json").write_bytes(content)
    clean(lambda: read_tensors(tmp_path))


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("rope_scaling", "x", "rope_scaling is 'x', not an object"),
        ("quantization_config", "int4", "quantization_config is 'int4', not an object"),
        ("text_config", [1], "text_config is [1], not an object"),
        ("hidden_size", 0, "hidden_size is 0, not a whole number from 1 to 2,147,483,647"),
        ("hidden_size", 64.5, "hidden_size is 64.5, not a whole number"),
        ("hidden_size", [64], "hidden_size is [64], not a whole number"),
        ("vocab_size", 10**12, "vocab_size is 1000000000000, not a whole number"),
        ("num_attention_heads", "8", "num_attention_heads is '8', not a whole number from 0"),
        ("torch_dtype", 5, "torch_dtype is 5, not a name"),
        ("architectures", "LlamaForCausalLM", "architectures is 'LlamaForCausalLM', not a list of names"),
        ("num_labels", "two", "num_labels is 'two', not a whole number"),
        ("id2label", 2, "id2label is 2, not an object"),
        ("model_type", "\ud800", "model_type is '\\ud800', not a name"),
    ],
)
def test_an_odd_value_is_named_with_its_key(key: str, value: Any, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        describe("m", {**CONFIG, key: value}, None)
    assert str(caught.value).startswith(f"The config.json of m: {sentence}")


def test_null_is_left_to_the_models_class() -> None:
    plain = {key: CONFIG[key] for key in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size")}
    heads = {"num_attention_heads": 4, "head_dim": None, "rope_scaling": None, "architectures": None}
    shape = describe("m", {**plain, **heads}, None).shape
    assert shape is not None
    assert shape.head_size == 16


def test_sizes_by_layer_and_none_of_experts_are_no_faults() -> None:
    found = describe("m", {**CONFIG, "intermediate_size": [128, 64], "num_experts": 0, "n_shared_experts": 0}, None)
    assert found.shape is not None


@given(st.text(max_size=30))
def test_a_text_that_is_no_json(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, "utf-8", "surrogatepass")
    clean(lambda: read_object(path, "a.json", "make it again"))


def test_what_is_good_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"bounds": [0.0, float("inf")], "a": {"b": 1}}))
    assert read_object(path, "a.json", "make it again") == {"bounds": [0.0, float("inf")], "a": {"b": 1}}

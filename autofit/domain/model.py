"""A model as the formulas need it: its shape and its parameters; read without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class ParameterGroup:
    """A group of `tensor_count` parameters of `element_count` elements each."""

    element_count: int
    tensor_count: int
    is_trained: bool
    element_bytes: int  # as the launcher builds the model


@dataclass(frozen=True)
class ModelShape:
    name: str
    model_type: str  # config.json's
    layer_count: int
    hidden_size: int
    head_count: int
    key_value_head_count: int
    head_size: int
    intermediate_size: int
    vocabulary_size: int
    parameter_count: int
    max_positions: int | None = None
    is_counted_exactly: bool = False  # from safetensors headers; otherwise by formula

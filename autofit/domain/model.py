"""A model as the formulas need it: its shape and its parameters; read without torch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, order=True)
class ParameterGroup:
    """A group of `tensor_count` parameters of `element_count` elements each."""

    element_count: int
    tensor_count: int
    is_trained: bool
    element_bytes: int  # as the launcher builds the model
    linear_rows: int = 0  # of a linear layer's weight that a quantised base keeps in fewer bits: its outputs; 0: none
    is_viewed: bool = False  # whether what autograd keeps of a forward pass has views of it, that outlive ZeRO-3's copy


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
    is_counted_exactly: bool = False  # from the model itself or its safetensors headers; otherwise by formula


class Positions(str, Enum):
    """How a model tells its tokens' places."""

    TABLE = "table"  # one entry a position: beyond the last one there is nothing to look up
    ROTARY = "rotary"  # goes on beyond what was trained, where nothing was learned
    OTHER = "other"  # a bias by distance, a recurrent state: no end of its own


@dataclass(frozen=True)
class Lacking:
    """A value of a knob, as words on a command line, that a model's class does not have, and why."""

    knob: str
    word: str
    why: str


@dataclass(frozen=True)
class ModelFacts:
    """What a model's class says of the model, built from its configuration without memory; no weight is read.

    `config` is JSON: the language model's configuration with what its class fills in, under transformers' usual names.
    `adapted` are the parameters beside LoRA's adapters, which sit on the modules that end in `lora_targets`; both are
    empty where LoRA is lacking.
    """

    config: str
    parameters: tuple[ParameterGroup, ...]
    positions: Positions
    lora_targets: tuple[str, ...] = ()
    adapted: tuple[ParameterGroup, ...] = ()
    lacking: tuple[Lacking, ...] = ()
    kernel_packages: tuple[str, ...] = ()  # whose kernels its code takes on a GPU where they are installed
    has_wide_scales: bool = False  # stored in 4 bits, with scales that were not quantised in their turn

    @property
    def parameter_count(self) -> int:
        return sum(group.element_count * group.tensor_count for group in self.parameters)

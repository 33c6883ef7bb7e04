"""A frozen base model in 4 or 8 bits, by bitsandbytes: what it is asked for, and how its layers live on a rank."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PretrainedConfig

from autofit.domain.knobs.quantization import Quantization
from autofit.inputs.model_config import stored_quantization
from autofit.inputs.snapshot import local_options


def bits_config(quantization: Quantization, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    """What transformers is asked for, None for weights as they are: every linear layer but the head is quantised.

    NF4 with double quantisation, computed in `dtype` (Dettmers et al., QLoRA, 2305.14314, section 3). Packed weights
    are bytes: DeepSpeed, which casts whatever is a floating-point number, leaves them alone.
    """
    match quantization:
        case Quantization.NONE:
            return None
        case Quantization.INT8:
            return BitsAndBytesConfig(load_in_8bit=True)
        case Quantization.NF4:
            return BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
                bnb_4bit_quant_storage=torch.uint8,
            )


def stored_bits(model: str) -> BitsAndBytesConfig | None:
    """How bitsandbytes has quantised the weights of a folder or a hub id that are stored so; None for others."""
    values, _ = PretrainedConfig.get_config_dict(model, **local_options(model))
    if stored_quantization(values) is None:
        return None
    return BitsAndBytesConfig.from_dict(values["quantization_config"])


def is_quantized(model: nn.Module) -> bool:
    return bool(getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False))


def quantized_layers(model: nn.Module) -> Iterator[Any]:
    """The layers whose weights bitsandbytes keeps in few bits; it is not imported for a model without any."""
    return filter(is_quantized_layer, model.modules()) if is_quantized(model) else iter(())


def is_quantized_layer(module: nn.Module) -> bool:
    """Whether it is a linear layer of bitsandbytes, which need not be installed."""
    return isinstance(module, nn.Linear) and type(module).__module__ == "bitsandbytes.nn.modules"


def settle(model: nn.Module, dtype: torch.dtype) -> None:
    """Has the layers of a model compute in `dtype`, and keep no more for the backward pass than they need.

    On a CPU that computes bf16 by itself bitsandbytes repacks a weight where it first evaluates
    (`_convert_weight_packed_for_cpu`), and no gradient goes through the layer any more.
    """
    for layer in quantized_layers(model):
        layer.compute_dtype, layer.compute_type_is_set = dtype, True
        layer.support_avx512bf16_for_cpu = False
        _keep_as_bytes(layer)
    if is_quantized(model):
        from .quantized_products import use_own_products

        use_own_products()


def prepare_to_divide(layer: Any) -> None:
    """Has an 8-bit layer whose weight ZeRO-3 will divide multiply with its parameter, of which it keeps a copy beside
    it."""
    _keep_as_bytes(layer)
    if hasattr(layer, "state"):
        weight = layer.weight
        layer.state = _gathered_state()(weight, layer.state)
        weight.CB = weight.SCB = None


def _keep_as_bytes(layer: Any) -> None:
    """Has a packed weight that is stored as floating-point numbers be bytes, which nothing casts."""
    weight = layer.weight
    if weight.is_floating_point():
        weight.data = weight.data.view(torch.uint8).view(-1, 1)
        weight.quant_storage = layer.quant_storage = torch.uint8


@functools.cache
def _gathered_state() -> type[Any]:
    from bitsandbytes import MatmulLtState

    class GatheredState(MatmulLtState):
        """The state of an 8-bit layer that multiplies with its parameter as ZeRO-3 has gathered it."""

        def __init__(self, weight: Any, usual: Any) -> None:
            self._weight = weight
            super().__init__(SCB=weight.SCB if usual.SCB is None else usual.SCB)
            self.threshold, self.use_pool, self.has_fp16_weights = usual.threshold, usual.use_pool, False

        @property
        def CB(self) -> Any:
            return self._weight.data

        @CB.setter
        def CB(self, value: object) -> None:
            pass  # it is the parameter, whatever the layer keeps

    return GatheredState

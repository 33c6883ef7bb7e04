"""Quantised base weights: what bitsandbytes' kernels on this device keep, compute and let gradients through."""

from __future__ import annotations

from typing import Any

import torch
from _check import Say
from transformers import LlamaConfig

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.quantization import QUANTIZATION, QUANTIZING_PACKAGE, Quantization
from autofit.hardware.requirements import installed_here
from autofit.planning.quantized_weights import PACKED_BITS, packed_bytes
from autofit.worker.model.quantization import bits_config, quantized_layers, settle
from autofit.worker.model.random_weights import quantized_model

_WIDTH, _WIDER, _TOKENS = 1024, 2816, 2048
_TOLERANCES = {Quantization.NF4: 0.01, Quantization.INT8: 0.05}  # of a norm: int8 rounds a product's inputs as well
_ADVICE = "do not use --quantize on this card, and report it with the lines above"


def quantised_layers(kind: DeviceKind, say: Say) -> None:
    if QUANTIZING_PACKAGE not in installed_here():
        say.tell(f"{QUANTIZING_PACKAGE} is not installed: --quantize is refused")
        return
    for quantization in PACKED_BITS:
        _check(quantization, torch.device(kind.value), say)


def _check(quantization: Quantization, device: torch.device, say: Say) -> None:
    word = QUANTIZATION.of(quantization).word
    bits = bits_config(quantization, torch.bfloat16)
    assert bits is not None
    config = LlamaConfig(
        vocab_size=512, hidden_size=_WIDTH, intermediate_size=_WIDER, num_hidden_layers=1, num_attention_heads=8
    )
    model = quantized_model(config, bits, dtype=torch.bfloat16, attention=Attention.SDPA, device=device)
    settle(model, torch.bfloat16)
    layer = next(one for one in quantized_layers(model.train()) if one.out_features == _WIDER)
    expected_bytes = packed_bytes(quantization, _WIDTH * _WIDER)
    say(layer.weight.nbytes == expected_bytes, f"{word}: a weight is {layer.weight.nbytes:,} B", _ADVICE)
    _check_product(word, layer, _TOLERANCES[quantization], say)
    if device.type == "cuda":
        _tell_peak(word, layer, say)


def _check_product(word: str, layer: Any, tolerance: float, say: Say) -> None:
    """Beside the product with the weight as it is made plain."""
    from transformers.integrations.bitsandbytes import dequantize_bnb_weight

    inputs = _inputs(layer)
    product = layer(inputs)
    gradient = torch.randn_like(product)
    product.backward(gradient)
    weight = dequantize_bnb_weight(layer.weight, getattr(layer, "state", None)).float()
    assert inputs.grad is not None
    pairs = (
        ("product", product.detach().float(), inputs.detach().float() @ weight.T),
        ("gradient", inputs.grad.float(), gradient.float() @ weight),
    )
    for what, found, expected in pairs:
        error = float((found - expected).norm() / expected.norm())
        say(error < tolerance, f"{word}: its {what} is off by {error:.2%} of its norm", _ADVICE, error=error)


def _tell_peak(word: str, layer: Any, say: Say) -> None:
    """What a step of one layer takes beside its inputs: the weight made plain, of which nothing is kept."""
    inputs = _inputs(layer)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    base_bytes = torch.cuda.memory_allocated()
    product = layer(inputs)
    kept_bytes = torch.cuda.memory_allocated() - base_bytes
    product.backward(torch.ones_like(product))
    peak_bytes = torch.cuda.max_memory_allocated() - base_bytes
    text = f"{word}: a layer of {_WIDTH} x {_WIDER} on {_TOKENS} tokens keeps {kept_bytes:,} B, peak {peak_bytes:,} B"
    say.tell(text, kept_bytes=kept_bytes, peak_bytes=peak_bytes)


def _inputs(layer: Any) -> torch.Tensor:
    torch.manual_seed(0)
    shape = (_TOKENS, layer.in_features)
    return torch.randn(shape, device=layer.weight.device, dtype=torch.bfloat16).requires_grad_()

"""How a config.json says that a model's weights are packed by GPTQ or AWQ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Layout(str, Enum):
    """How numbers of few bits lie in words of 32."""

    GPTQ = "gptq"  # eight numbers of 4 bits are eight inputs of a layer; a zero point is stored as one less
    GPTQ_V2 = "gptq_v2"  # the same with zero points as they are
    AWQ = "awq"  # eight outputs, in an order of its own: AutoAWQ's "gemm"


@dataclass(frozen=True)
class Packing:
    """What is to be known beside the tensors themselves; `group_size` are the inputs of a layer that share a scale,
    None: all of them."""

    layout: Layout
    group_size: int | None

    @property
    def text(self) -> str:
        return "AWQ" if self.layout is Layout.AWQ else "GPTQ"


_BITS: Mapping[Layout, tuple[int, ...]] = {Layout.GPTQ: (2, 4, 8), Layout.GPTQ_V2: (2, 4, 8), Layout.AWQ: (4,)}
"""Those that fill a word."""


_TURNED = ("gpt2", "openai-gpt", "imagegpt", "decision_transformer")
"""Families whose linear layers hold their weights the other way round (Conv1D of transformers 5.23)."""
_SCALED = (
    "starcoder2", "RefinedWebModel", "falcon", "mpt", "gptj", "gpt_neox", "gpt_bigcode", "bloom",
)  # fmt: skip
"""Families whose activations AWQ scales, too (AWQ_SCALES_MAPPINGS in transformers/integrations/awq.py)."""


def packing(config: Mapping[str, Any]) -> Packing | None:
    """How a config.json says that weights are packed; None where they are not, or in no way that is known."""
    quantization = config.get("quantization_config")
    if not isinstance(quantization, dict):
        return None
    layout, size = _layout(quantization), quantization.get("group_size")
    if config.get("model_type") in (_TURNED + _SCALED if layout is Layout.AWQ else _TURNED):
        return None
    if layout is None or quantization.get("bits") not in _BITS[layout] or type(size) is not int:
        return None
    return Packing(layout, size if size > 0 else None)


def _layout(quantization: Mapping[str, Any]) -> Layout | None:
    """By the names that GPTQModel, AutoGPTQ, AutoAWQ and transformers write."""
    if quantization.get("dynamic") or quantization.get("is_marlin_format"):
        return None
    own = "version" if quantization.get("quant_method") == "awq" else "checkpoint_format"
    name = str(quantization.get(own) or quantization.get("format") or "").lower()
    match quantization.get("quant_method"), name:
        case "gptq", "" | "gptq":
            return Layout.GPTQ
        case "gptq", "gptq_v2":
            return Layout.GPTQ_V2
        case "awq", "" | "gemm" if quantization.get("backend") != "llm-awq":
            return Layout.AWQ
    return None

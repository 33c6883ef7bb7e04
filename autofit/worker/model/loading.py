"""A model without weights or with them, and its tokenizer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, TypedDict

import torch
from transformers import (
    AutoTokenizer,
    BitsAndBytesConfig,
    Mxfp4Config,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.integrations import deepspeed as hf_deepspeed
from typing_extensions import Unpack

from autofit.domain.knobs.attention import Attention
from autofit.inputs.snapshot import local_options

from .configuration import load_config
from .heads import auto_class, new_head
from .packed_weights import stored_packing, unpacking
from .quantization import is_quantized

_TOWERS = ("vision_config", "audio_config")
_REMOTE_PACKAGE = "transformers_modules"  # where transformers puts code that lies beside weights


def build_model(
    config: PretrainedConfig, *, dtype: torch.dtype, attention: Attention, scores: bool = False
) -> PreTrainedModel:
    """The model with random weights, with a head for words or one that `scores`; code of its own runs where `config`
    came from such code, which was allowed."""
    is_remote, implementation = type(config).__module__.startswith(_REMOTE_PACKAGE), kernels_of(config, attention)
    made: PreTrainedModel = auto_class(scores=scores).from_config(
        config, dtype=dtype, attn_implementation=implementation, trust_remote_code=is_remote
    )
    return made


def build_without_memory(config: PretrainedConfig, *, scores: bool = False) -> PreTrainedModel:
    """The model on the meta device, with the attention that every class has; on a rank that trains under ZeRO-3, too,
    where transformers would make each layer real to divide it."""
    with without_zero_3(), torch.device("meta"):
        return build_model(config, dtype=torch.bfloat16, attention=Attention.EAGER, scores=scores)


@contextlib.contextmanager
def without_zero_3() -> Iterator[None]:
    """Has transformers forget DeepSpeed's configuration until the end of `with`."""
    known = hf_deepspeed._hf_deepspeed_config_weak_ref
    hf_deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        hf_deepspeed._hf_deepspeed_config_weak_ref = known


def load_tokenizer(model: str, *, trust_remote_code: bool) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code, **local_options(model))


class Placed(TypedDict, total=False):
    """Where every weight goes as soon as it is read, the host where it is left out, and how it is quantised there."""

    device: torch.device | None
    bits: BitsAndBytesConfig | None


def load_model(
    model: str,
    *,
    dtype: torch.dtype,
    trust_remote_code: bool,
    attention: Attention | None = None,
    scores: bool = False,
    **placed: Unpack[Placed],
) -> PreTrainedModel:
    """The model of a folder or a hub id in `dtype`, with plain weights where it is stored in mxfp4, GPTQ or AWQ.

    `attention` is None where the model is not run. Where it `scores`, it has a head of one number in place of the one
    for words: a new one, unless it is stored with the rest. Under ZeRO-3, which takes no device for plain weights,
    transformers divides them while it loads them.
    """
    device, bits = placed.get("device"), placed.get("bits")
    options: dict[str, Any] = {} if device is None else {"device_map": {"": device}}
    if bits is not None:
        options["quantization_config"] = bits
    if attention is not None:
        config = load_config(model, trust_remote_code=trust_remote_code)
        options["attn_implementation"] = kernels_of(config, attention)
    is_made_plain = _is_mxfp4(model)
    if is_made_plain:
        options["quantization_config"] = Mxfp4Config(dequantize=True)
    here = local_options(model, needs_weights=True)
    options |= {**here, "adapter_kwargs": here}  # an adapter is looked for beside the model, by options of its own
    with contextlib.ExitStack() as stack:
        if scores:
            stack.enter_context(new_head(load_config(model, trust_remote_code=trust_remote_code, scores=True)))
            options["num_labels"] = 1
        if (packing := stored_packing(model)) is not None:
            stack.enter_context(unpacking(packing, device, dtype))
            options |= {"config": load_config(model, trust_remote_code=trust_remote_code, scores=scores)}
            options.pop("num_labels", None)  # the configuration has it
        load = auto_class(scores=scores).from_pretrained
        loaded: PreTrainedModel = load(model, dtype=dtype, trust_remote_code=trust_remote_code, **options)
    if is_made_plain:  # else they would be saved plain under the names of quantised ones, which nothing loads
        loaded._weight_conversions = None
    return loaded


def load_plain(model: str, *, dtype: torch.dtype, trust_remote_code: bool, scores: bool = False) -> PreTrainedModel:
    """The model of a folder or a hub id on the host, with weights in `dtype` whatever they are stored in."""
    loaded = load_model(model, dtype=dtype, trust_remote_code=trust_remote_code, scores=scores)
    if not is_quantized(loaded):
        return loaded
    plain: PreTrainedModel = loaded.dequantize(dtype)
    plain.is_loaded_in_4bit = plain.is_loaded_in_8bit = False  # transformers still says so
    plain._weight_conversions = None  # they would save the names of quantised weights
    return plain


def towers(config: PretrainedConfig) -> dict[str, PretrainedConfig]:
    """The configurations of what sees or hears in a model that takes more than text, by their names in the whole."""
    parts = {name: getattr(config, name, None) for name in _TOWERS}
    return {name: part for name, part in parts.items() if part is not None and name in config.sub_configs}


def kernels_of(config: PretrainedConfig, attention: Attention) -> str | dict[str, str]:
    """The kernel as transformers is asked for it. Towers, which do not run on text, take the one that all classes
    have."""
    beside = dict.fromkeys(towers(config), Attention.EAGER.value)
    return {"": attention.value, **beside} if beside else attention.value


def _is_mxfp4(model: str) -> bool:
    values, _ = PretrainedConfig.get_config_dict(model, **local_options(model))
    quantization = values.get("quantization_config") or {}
    return bool(quantization.get("quant_method") == "mxfp4")

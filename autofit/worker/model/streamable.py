"""Whether a model's weights can be streamed from the disk, or only loaded as `from_pretrained` does it by itself."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from deepspeed.runtime.zero import partition_parameters
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, core_model_loading, modeling_utils
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.integrations.deepspeed import deepspeed_config, is_deepspeed_zero3_enabled

_LOADING = ("model_to_load", "state_dict", "load_config")
_READING = ("checkpoint_file", "map_location", "weights_only", "disable_mmap")
_RENAMING = ("source_key", "weight_renamings", "weight_converters", "base_model_prefix", "meta_state_dict", "reverse")
_FUNCTIONS: tuple[tuple[Any, str, tuple[str, ...]], ...] = (
    (modeling_utils, "load_state_dict", _READING),
    (modeling_utils, "_load_state_dict_into_zero3_model", _LOADING),
    (modeling_utils, "_tied_params_are_equal", ("source", "target")),
    (modeling_utils, "_is_on_hf_mount", ("path",)),
    (core_model_loading, "rename_source_key", _RENAMING),
    (core_model_loading, "dot_natural_key", ("s",)),
    (partition_parameters.Init, "_zero_init_param", ("self", "param")),
)
"""What streaming under ZeRO-3 replaces or calls and no document promises, as transformers 5.23 and DeepSpeed 0.19.8
have it."""
_CLASSES = ("WeightRenaming", "WeightConverter", "MergeModulelist", "Concatenate", "Transpose")


def why_not_streamed(model: str, *, trust_remote_code: bool) -> str | None:
    """Why the weights of a folder or a hub id cannot be streamed, None where they can be. It asks what is the same on
    all ranks: the model, the versions, and DeepSpeed's configuration, which must be known to transformers."""
    values, _ = PretrainedConfig.get_config_dict(model)
    if values.get("quantization_config"):
        return "they are stored quantised"
    if trust_remote_code and _loads_by_itself(model, values):
        return "its own code loads them"
    return _why_no_partitions() if is_deepspeed_zero3_enabled() else None


def _loads_by_itself(model: str, values: Mapping[str, Any]) -> bool:
    """Whether the class beside the weights has a way of its own to load them."""
    reference = (values.get("auto_map") or {}).get(AutoModelForCausalLM.__name__)
    if reference is None:
        return False
    kind = get_class_from_dynamic_module(reference, model)
    own = (inspect.getattr_static(kind, name, None) for name in ("from_pretrained", "_load_pretrained_model"))
    return list(own) != [PreTrainedModel.__dict__[name] for name in ("from_pretrained", "_load_pretrained_model")]


def _why_no_partitions() -> str | None:
    zero: Mapping[str, Any] = (deepspeed_config() or {}).get("zero_optimization", {})
    if int(zero.get("zero_hpz_partition_size", 1)) > 1 or int(zero.get("mics_shard_size", -1)) > 0:
        return "each group of ranks keeps a copy of the partitions"
    if zero.get("zero_quantized_weights") or zero.get("zero_quantized_nontrainable_weights"):
        return "DeepSpeed keeps its partitions quantised"
    if (zero.get("offload_param") or {}).get("device") == "nvme":
        return "their partitions are kept on NVMe"
    if not all(_is_known(*function) for function in _FUNCTIONS) or not _has_classes():
        return "these versions of transformers and DeepSpeed load otherwise"
    return None


def _is_known(owner: object, name: str, parameters: tuple[str, ...]) -> bool:
    function = getattr(owner, name, None)
    return callable(function) and tuple(inspect.signature(function).parameters) == parameters


def _has_classes() -> bool:
    return all(isinstance(getattr(core_model_loading, name, None), type) for name in _CLASSES)

"""Whether a model's weights can be streamed from the disk, or only loaded as `from_pretrained` does it by itself."""

from __future__ import annotations

import contextlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel
from transformers.dynamic_module_utils import get_class_from_dynamic_module
from transformers.integrations.deepspeed import deepspeed_config, is_deepspeed_zero3_enabled

from autofit.inputs.snapshot import local_options

from .heads import auto_class

_UTILS, _CORE = "transformers.modeling_utils", "transformers.core_model_loading"
_PARTITIONS = "deepspeed.runtime.zero.partition_parameters"
_RENAMING = ("source_key", "weight_renamings", "weight_converters", "base_model_prefix", "meta_state_dict", "reverse")
_FUNCTIONS = {
    f"{_UTILS}:load_state_dict": ("checkpoint_file", "map_location", "weights_only", "disable_mmap"),
    f"{_UTILS}:_load_state_dict_into_zero3_model": ("model_to_load", "state_dict", "load_config"),
    f"{_UTILS}:_tied_params_are_equal": ("source", "target"),
    f"{_UTILS}:_is_on_hf_mount": ("path",),
    f"{_CORE}:rename_source_key": _RENAMING,
    f"{_CORE}:dot_natural_key": ("s",),
    f"{_PARTITIONS}:Init._zero_init_param": ("self", "param"),
}
"""What streaming under ZeRO-3 replaces or calls and no document promises, with its parameters in transformers 5.23 and
DeepSpeed 0.19.8."""
_DIVIDING_FUNCTIONS = {
    f"{_CORE}:set_param_for_module": ("model", "target_name", "param_value", "loading_info", "hf_quantizer"),
    f"{_UTILS}:convert_and_load_state_dict_in_model": ("model", "state_dict", "load_config", "disk_offload_index"),
    f"{_UTILS}:caching_allocator_warmup": ("model", "expanded_device_map", "hf_quantizer"),
    f"{_PARTITIONS}:Init._convert_to_zero_parameters": ("self", "param_list"),
}
"""The same for quantised weights."""
_LOADERS = ("from_pretrained", "_load_pretrained_model")
_CLASSES = ("WeightRenaming", "WeightConverter", "MergeModulelist", "Concatenate", "Transpose")
_OTHERS = (*(f"{_CORE}:{name}" for name in _CLASSES), f"{_PARTITIONS}:dist.broadcast")


def why_not_streamed(model: str, *, trust_remote_code: bool, scores: bool = False) -> str | None:
    """Why the weights of a folder or a hub id cannot be streamed, None where they can be. It asks what is the same on
    all ranks: the model, the versions, and DeepSpeed's configuration, which must be known to transformers."""
    values, _ = PretrainedConfig.get_config_dict(model, **local_options(model))
    if values.get("quantization_config"):
        return "they are stored quantised"
    if trust_remote_code and _loads_by_itself(model, values, scores):
        return "its own code loads them"
    return _why_no_partitions(_FUNCTIONS) if is_deepspeed_zero3_enabled() else None


def why_not_divided() -> str | None:
    """Why quantised weights cannot be divided while they are loaded under ZeRO-3, None where they can be."""
    return _why_no_partitions(_DIVIDING_FUNCTIONS)


def _loads_by_itself(model: str, values: Mapping[str, Any], scores: bool) -> bool:
    """Whether the class beside the weights has a way of its own to load them."""
    reference = (values.get("auto_map") or {}).get(auto_class(scores=scores).__name__)
    if reference is None:
        return False
    kind = get_class_from_dynamic_module(reference, model)
    own, usual = ([inspect.getattr_static(each, name, None) for name in _LOADERS] for each in (kind, PreTrainedModel))
    return own != usual


def _why_no_partitions(functions: Mapping[str, tuple[str, ...]]) -> str | None:
    zero: Mapping[str, Any] = (deepspeed_config() or {}).get("zero_optimization", {})
    if int(zero.get("zero_hpz_partition_size", 1)) > 1 or int(zero.get("mics_shard_size", -1)) > 0:
        return "each group of ranks keeps a copy of the partitions"
    if zero.get("zero_quantized_weights") or zero.get("zero_quantized_nontrainable_weights"):
        return "DeepSpeed keeps its partitions quantised"
    if (zero.get("offload_param") or {}).get("device") == "nvme":
        return "their partitions are kept on NVMe"
    is_known = all(_parameters(name) == expected for name, expected in functions.items())
    if not is_known or None in map(_resolved, _OTHERS):
        return "these versions of transformers and DeepSpeed load otherwise"
    return None


def _parameters(name: str) -> tuple[str, ...]:
    """The parameters of a function, none where it is not there."""
    function = _resolved(name)
    return tuple(inspect.signature(function).parameters) if callable(function) else ()


def _resolved(name: str) -> object:
    with contextlib.suppress(ImportError, AttributeError):
        return pkgutil.resolve_name(name)
    return None

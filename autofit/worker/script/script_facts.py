"""What a script shows of itself at `deepspeed.initialize`: its model, and the engine that it asks for."""

from __future__ import annotations

import json
from collections import Counter

import torch
from deepspeed.runtime.config import DeepSpeedConfig
from torch import nn
from transformers import PreTrainedModel

from autofit.domain.knobs.dtype import Dtype, switched_on
from autofit.domain.knobs.offload import Offload
from autofit.domain.model import ParameterGroup
from autofit.domain.script import ScriptFacts
from autofit.planning.export.deepspeed_config import offload_in
from autofit.planning.optimizer_states import OPTIONS
from autofit.worker.deepspeed.engine_hook import EngineCall
from autofit.worker.rank.torch_dtypes import DTYPES
from autofit.worker.script.runtime_patches import attention_of, has_checkpointing, hugging_face_model


def facts_of(call: EngineCall) -> ScriptFacts:
    """The facts before anything is patched, and before an engine that may not fit is made."""
    model, config = call.model, call.config
    inner = hugging_face_model(model)
    return ScriptFacts(
        model_class=type(model if inner is None else inner).__name__,
        model_config=None if inner is None else _config_text(inner),
        parameters=_parameter_groups(model),
        buffers_bytes=sum(buffer.numel() * buffer.element_size() for buffer in model.buffers()),
        optimizer=call.optimizer_name,
        dtype=_dtype(model, config),
        zero_stage=int(config.zero_optimization_stage),
        offload=offload_in(config.zero_config.model_dump()) if config.zero_optimization_stage else Offload.NONE,
        micro_batch=config.train_micro_batch_size_per_gpu,
        gradient_accumulation=config.gradient_accumulation_steps,
        rank_count=torch.distributed.get_world_size(),
        gradient_checkpointing=has_checkpointing(inner),
        attention=attention_of(inner),
        optimizer_options=optimizer_options(call),
    )


def optimizer_options(call: EngineCall) -> tuple[str, ...]:
    """The ones of `OPTIONS` that are on: of the script's own optimizer in any of its groups, or in the config."""
    given = call.config.optimizer_params or {}
    # A function that makes the optimizer has no groups yet.
    groups = [given] if call.optimizer is None else getattr(call.optimizer, "param_groups", [])
    return tuple(sorted(option for option in OPTIONS if any(group.get(option) for group in groups)))


def _config_text(model: PreTrainedModel) -> str:
    """The model's config as its config.json says it, with nothing left to defaults; a config that was never saved names
    no class."""
    config = json.loads(model.config.to_json_string(use_diff=False))
    return json.dumps(config | {"architectures": [type(model).__name__]}, allow_nan=False)


def _parameter_groups(model: nn.Module) -> tuple[ParameterGroup, ...]:
    counts = Counter(
        (getattr(parameter, "ds_numel", parameter.numel()), parameter.requires_grad, parameter.element_size())
        for parameter in model.parameters()  # under zero.Init a rank holds a part, and `ds_numel` tells the whole
    )
    return tuple(ParameterGroup(size, count, trained, width) for (size, trained, width), count in counts.items())


def _dtype(model: nn.Module, config: DeepSpeedConfig) -> Dtype:
    """The dtype that it computes in; without mixed precision that of its widest parameters."""
    mixed = switched_on({"bf16": config.bfloat16_config.enabled, "fp16": config.float16_config.enabled})
    if mixed is not None:
        return mixed
    widest = max((parameter.dtype for parameter in model.parameters()), key=lambda dtype: dtype.itemsize)
    return DTYPES.get(widest, Dtype.FP32)

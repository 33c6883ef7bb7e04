"""The DeepSpeed configuration of a strategy: the same for a probe, for the full run, and for plain `deepspeed`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import BF16_MASTERS, Optimizer
from autofit.domain.model import ModelShape
from autofit.domain.request import Request
from autofit.domain.strategy import Rung, Strategy
from autofit.planning.gradient_clipping import clipping_norm
from autofit.planning.memory.buffers import is_overlapped
from autofit.planning.optimizer_split import OptimizerSplit
from autofit.planning.zero_sizes import ZeroSizes, zero_sizes

NEVER_STEPS = 10**9
"""DeepSpeed's own progress lines: the trainer prints better ones."""

OFFLOAD_KEYS = ("offload_optimizer", "offload_param")
RATIO, SUB_GROUP_SIZE = "ratio", "sub_group_size"
HOST_OPTIMIZER = "zero_force_ds_cpu_optimizer"
GATHER_ON_SAVE = "stage3_gather_16bit_weights_on_model_save"

FUSED_KEYS = ("stage3_prefetch_bucket_size", "stage3_max_live_parameters", "stage3_max_reuse_distance")
"""What is 0 where LOMO or AdaLomo updates in the backward pass: a parameter that is fetched ahead or kept for its next
use would be gathered beside it, and from the second step on the whole model is (DeepSpeed 0.19.8)."""


def deepspeed_config(
    strategy: Strategy,
    request: Request,
    shape: ModelShape,
    kind: DeviceKind,
    bucket_elements: int | None = None,
    split: OptimizerSplit | None = None,
) -> dict[str, object]:
    """The configuration, ready for JSON and complete without Hugging Face: no value is "auto". Keys as DeepSpeed 0.19.8
    reads them. `bucket_elements` are those of the reduce bucket, None for hidden²; `split` is that of an optimizer that
    is offloaded in part. UsageError for a norm to clip at that is none."""
    return {
        "train_batch_size": request.global_batch,
        "train_micro_batch_size_per_gpu": strategy.micro_batch,
        "gradient_accumulation_steps": strategy.gradient_accumulation,
        "gradient_clipping": clipping_norm(strategy.rung.optimizer, request.training.extra_arguments),
        "bf16": _bf16(strategy.rung),
        "fp16": _fp16(strategy.rung.dtype),
        "zero_optimization": _zero(
            strategy,
            zero_sizes(shape.hidden_size, bucket_elements),
            kind,
            request.global_batch // (strategy.micro_batch * strategy.gradient_accumulation),
            split,
        ),
        # trl brings its own optimizer; it is a torch AdamW that DeepSpeed need not know by name.
        "zero_allow_untested_optimizer": True,
        # DeepSpeed's host Adam is compiled at first use: worth it beside a GPU, a loss of minutes on a CPU. Turned on,
        # it takes the place of any other optimizer.
        HOST_OPTIMIZER: kind is not DeviceKind.CPU and strategy.rung.optimizer is Optimizer.ADAMW,
        "steps_per_print": NEVER_STEPS,
        "wall_clock_breakdown": False,
    }


def has_engine(rung: Rung) -> bool:
    """Whether autofit's own training by `rung` has an engine of DeepSpeed's: at stage 0 torch does it alone."""
    return rung.zero_stage > 0


def engine_config(
    strategy: Strategy,
    request: Request,
    shape: ModelShape,
    kind: DeviceKind,
    bucket_elements: int | None = None,
    split: OptimizerSplit | None = None,
) -> dict[str, object] | None:
    """The configuration of the engine that trains by `strategy`, None where there is none; UsageError as
    `deepspeed_config`."""
    if not has_engine(strategy.rung):
        return None
    return deepspeed_config(strategy, request, shape, kind, bucket_elements, split)


def _bf16(rung: Rung) -> dict[str, object]:
    """The section `bf16`; DeepSpeed takes bf16 master weights on the device only with bf16 states as well, which says
    nothing of an optimizer whose states it does not make."""
    masters = {"bf16_master_weights_and_grads": True, "bf16_optimizer_states": True}
    return {"enabled": rung.dtype is Dtype.BF16, **(masters if rung.optimizer in BF16_MASTERS else {})}


def _fp16(dtype: Dtype) -> dict[str, object]:
    """The section `fp16`: a loss scale of 0 is a dynamic one, starting at 2^16."""
    if dtype is not Dtype.FP16:
        return {"enabled": False}
    return {"enabled": True, "loss_scale": 0, "initial_scale_power": 16}


def _zero(
    strategy: Strategy, sizes: ZeroSizes, kind: DeviceKind, rank_count: int, split: OptimizerSplit | None
) -> dict[str, object]:
    stage = strategy.rung.zero_stage
    config: dict[str, object] = {
        "stage": stage,
        "overlap_comm": is_overlapped(strategy.rung, kind, rank_count),
        "contiguous_gradients": True,
        **sizes.config(stage),
        **offload_sections(strategy.rung.offload, kind, split),
    }
    if split is not None:
        config[SUB_GROUP_SIZE] = split.sub_group_size
    if stage < 3:
        return config
    fused = dict.fromkeys(FUSED_KEYS, 0) if strategy.rung.optimizer.is_fused else {}
    return config | fused | {GATHER_ON_SAVE: True}


_MOVED = {
    Offload.NONE: (),
    Offload.PARTIAL: OFFLOAD_KEYS[:1],
    Offload.OPTIMIZER: OFFLOAD_KEYS[:1],
    Offload.ALL: OFFLOAD_KEYS,
}
"""Which of OFFLOAD_KEYS each takes."""


def offload_sections(offload: Offload, kind: DeviceKind, split: OptimizerSplit | None = None) -> dict[str, object]:
    """The sections of `zero_optimization` that offload takes; `split` is that of a part of the optimizer."""
    sections = {key: {"device": "cpu", "pin_memory": kind is DeviceKind.CUDA} for key in _MOVED[offload]}
    if split is not None:
        sections[OFFLOAD_KEYS[0]][RATIO] = split.ratio
    return {**sections}


def offload_in(zero: Mapping[str, Any]) -> Offload:
    """What the sections of somebody's `zero_optimization` move off the device; parameters move with their optimizer,
    and at stage 3 alone: below it DeepSpeed passes over their section."""
    optimizer, parameters = (_moves(zero.get(key)) for key in OFFLOAD_KEYS)
    parameters = parameters and zero.get("stage") == 3
    return Offload.ALL if parameters else Offload.OPTIMIZER if optimizer else Offload.NONE


def _moves(section: object) -> bool:
    return isinstance(section, dict) and section.get("device", "none") != "none"

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
from autofit.planning.export.gradient_clipping import gradient_clipping
from autofit.planning.memory.buffers import is_overlapped
from autofit.planning.zero_sizes import ZeroSizes, zero_sizes

NEVER_STEPS = 10**9
"""DeepSpeed's own progress lines: the trainer prints better ones."""

OFFLOAD_KEYS = ("offload_optimizer", "offload_param")
HOST_OPTIMIZER = "zero_force_ds_cpu_optimizer"
GATHER_ON_SAVE = "stage3_gather_16bit_weights_on_model_save"


def deepspeed_config(
    strategy: Strategy, request: Request, shape: ModelShape, kind: DeviceKind, bucket_elements: int | None = None
) -> dict[str, object]:
    """The configuration, ready for JSON and complete without Hugging Face: no value is "auto". Keys as DeepSpeed 0.19.8
    reads them. `bucket_elements` are those of the reduce bucket, None for hidden². UsageError for a norm to clip at
    that is none."""
    return {
        "train_batch_size": request.global_batch,
        "train_micro_batch_size_per_gpu": strategy.micro_batch,
        "gradient_accumulation_steps": strategy.gradient_accumulation,
        "gradient_clipping": gradient_clipping(request.training.extra_arguments),
        "bf16": _bf16(strategy.rung),
        "fp16": _fp16(strategy.rung.dtype),
        "zero_optimization": _zero(strategy, zero_sizes(shape.hidden_size, bucket_elements), kind),
        # trl brings its own optimizer; it is a torch AdamW that DeepSpeed need not know by name.
        "zero_allow_untested_optimizer": True,
        # DeepSpeed's host Adam is compiled at first use: worth it beside a GPU, a loss of minutes on a CPU. Turned on,
        # it takes the place of any other optimizer.
        HOST_OPTIMIZER: kind is not DeviceKind.CPU and strategy.rung.optimizer is Optimizer.ADAMW,
        "steps_per_print": NEVER_STEPS,
        "wall_clock_breakdown": False,
    }


def has_engine(rung: Rung) -> bool:
    """Whether autofit's own training by `rung` has an engine of DeepSpeed's: at stage 0 torch's DDP does it."""
    return rung.zero_stage > 0


def engine_config(
    strategy: Strategy,
    request: Request,
    shape: ModelShape,
    kind: DeviceKind,
    bucket_elements: int | None = None,
) -> dict[str, object] | None:
    """The configuration of the engine that trains by `strategy`, None where there is none; UsageError as
    `deepspeed_config`."""
    return deepspeed_config(strategy, request, shape, kind, bucket_elements) if has_engine(strategy.rung) else None


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


def _zero(strategy: Strategy, sizes: ZeroSizes, kind: DeviceKind) -> dict[str, object]:
    stage = strategy.rung.zero_stage
    config: dict[str, object] = {
        "stage": stage,
        "overlap_comm": is_overlapped(kind),
        "contiguous_gradients": True,
        **sizes.config(stage),
        **offload_sections(strategy.rung.offload, kind),
    }
    return config | ({GATHER_ON_SAVE: True} if stage == 3 else {})


_MOVED = {Offload.NONE: 0, Offload.OPTIMIZER: 1, Offload.ALL: 2}
"""How many of OFFLOAD_KEYS each takes."""


def offload_sections(offload: Offload, kind: DeviceKind) -> dict[str, object]:
    """The sections of `zero_optimization` that offload takes."""
    moved = OFFLOAD_KEYS[: _MOVED[offload]]
    return {key: {"device": "cpu", "pin_memory": kind is DeviceKind.CUDA} for key in moved}


def offload_in(zero: Mapping[str, Any]) -> Offload:
    """What the sections of somebody's `zero_optimization` move off the device; parameters move with their optimizer."""
    moved = [number for number, key in enumerate(OFFLOAD_KEYS, 1) if _moves(zero.get(key))]
    return next(offload for offload, count in _MOVED.items() if count == max(moved, default=0))


def _moves(section: object) -> bool:
    return isinstance(section, dict) and section.get("device", "none") != "none"

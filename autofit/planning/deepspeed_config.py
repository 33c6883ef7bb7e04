"""The DeepSpeed configuration of a strategy: the same for a probe, for the full run, and for plain `deepspeed`."""

from __future__ import annotations

from autofit.domain.hardware import DeviceKind
from autofit.domain.model import ModelShape
from autofit.domain.request import Request
from autofit.domain.strategy import Dtype, Offload, Strategy

from .buffers import is_overlapped

NEVER_STEPS = 10**9
"""DeepSpeed's own progress lines: the trainer prints better ones."""

GRADIENT_CLIPPING = 1.0
"""The norm at which Hugging Face's trainer clips by default."""


def deepspeed_config(strategy: Strategy, request: Request, shape: ModelShape, kind: DeviceKind) -> dict[str, object]:
    """Ready for JSON, complete without Hugging Face: no value is "auto". Keys as DeepSpeed 0.19.8 reads them."""
    return {
        "train_batch_size": request.global_batch,
        "train_micro_batch_size_per_gpu": strategy.micro_batch,
        "gradient_accumulation_steps": strategy.gradient_accumulation,
        "gradient_clipping": GRADIENT_CLIPPING,
        "bf16": {"enabled": strategy.rung.dtype is Dtype.BF16},
        "fp16": _fp16(strategy.rung.dtype),
        "zero_optimization": _zero(strategy, shape, kind),
        # trl brings its own optimizer; it is a torch AdamW that DeepSpeed need not know by name.
        "zero_allow_untested_optimizer": True,
        # DeepSpeed's host Adam is compiled at first use: worth it beside a GPU, a loss of minutes on a CPU.
        "zero_force_ds_cpu_optimizer": kind is not DeviceKind.CPU,
        "steps_per_print": NEVER_STEPS,
        "wall_clock_breakdown": False,
    }


def _fp16(dtype: Dtype) -> dict[str, object]:
    """A loss scale of 0 is a dynamic one, starting at 2^16."""
    if dtype is not Dtype.FP16:
        return {"enabled": False}
    return {"enabled": True, "loss_scale": 0, "initial_scale_power": 16}


def _zero(strategy: Strategy, shape: ModelShape, kind: DeviceKind) -> dict[str, object]:
    bucket = shape.hidden_size**2
    config: dict[str, object] = {
        "stage": strategy.rung.zero_stage,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
        "overlap_comm": is_overlapped(kind),
        "contiguous_gradients": True,
    }
    return config | _offload(strategy.rung.offload, kind) | (_stage_3(shape) if strategy.rung.zero_stage == 3 else {})


def _offload(offload: Offload, kind: DeviceKind) -> dict[str, object]:
    where = {"device": "cpu", "pin_memory": kind is DeviceKind.CUDA}
    moved = {
        Offload.NONE: (),
        Offload.OPTIMIZER: ("offload_optimizer",),
        Offload.ALL: ("offload_optimizer", "offload_param"),
    }[offload]
    return {part: dict(where) for part in moved}


def _stage_3(shape: ModelShape) -> dict[str, object]:
    """Sizes in elements, as Hugging Face's "auto" sets them from the hidden size."""
    return {
        "stage3_prefetch_bucket_size": int(0.9 * shape.hidden_size**2),
        "stage3_param_persistence_threshold": 10 * shape.hidden_size,
        "stage3_gather_16bit_weights_on_model_save": True,
    }

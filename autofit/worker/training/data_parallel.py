"""A trainer that needs no engine of DeepSpeed's: without one torch's DDP sums the gradients, and autocast computes."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedDataParallelKwargs, GradScalerKwargs
from peft import PeftModel
from transformers import PretrainedConfig, Trainer

from autofit.domain.knobs.dtype import switched_on
from autofit.worker.deepspeed.divided_optimizer import join_parts
from autofit.worker.deepspeed.optimizer_loading import load_from_any_place
from autofit.worker.model.loading import towers
from autofit.worker.model.quantization import is_quantized
from autofit.worker.model.reloading import reload_weights
from autofit.worker.rank.torch_dtypes import TORCH_DTYPES

_NEVER_STEPS = 2**31 - 1


class DataParallelTrainer(Trainer):
    """Stands before trl's trainer of a task. Where its arguments name no DeepSpeed configuration it trains as torch's
    DDP does, on one device as torch alone; the rest of it is for both.

    `has_fixed_scale`: the loss of a training in fp16 is not scaled, so that no step is skipped for it.
    """

    def __init__(self, *, has_fixed_scale: bool = False, **kwargs: Any) -> None:
        self._norm: Any = None
        self._scaler = GradScalerKwargs(init_scale=1.0, growth_interval=_NEVER_STEPS) if has_fixed_scale else None
        super().__init__(**kwargs)
        if is_quantized(self.model):
            self._restore_adapters()

    def _restore_adapters(self) -> None:
        """Gives the adapters of a quantised model the dtype that others have: trl makes them bf16, in which their
        updates would be rounded where no engine keeps master weights, and which a training in fp16 has no use for."""
        switched = switched_on(vars(self.args)) if self.is_deepspeed_enabled else None
        dtype = torch.float32 if switched is None else TORCH_DTYPES[switched]
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(dtype)

    def _build_accelerator_args(self, **kwargs: Any) -> dict[str, Any]:
        arguments: dict[str, Any] = super()._build_accelerator_args(**kwargs)
        scaler = [] if self._scaler is None else [self._scaler]
        return {**arguments, "kwargs_handlers": [ddp_options(self.model.config), *scaler]}

    def create_accelerator_and_postprocess(self) -> None:
        """Makes the accelerator. accelerate would wrap the model of a single CPU rank as well, and sum its gradients
        with nobody's; what it prepares for an evaluation it wraps in autocast alone (`Accelerator.prepare_model`)."""
        super().create_accelerator_and_postprocess()
        if not self.is_deepspeed_enabled and self.args.world_size == 1:
            self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        with warnings.catch_warnings():
            # The name changes between the versions of torch that we support; both take the old one.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return super()._prepare_for_training(*args, **kwargs)

    def create_scheduler(self, *args: Any, **kwargs: Any) -> Any:
        """Makes the schedule, for which the optimizer is ready: an engine has just been made, and nothing was loaded
        into it yet."""
        wrapped = self.accelerator.deepspeed_engine_wrapped if self.is_deepspeed_enabled else None
        if wrapped is not None:
            join_parts(wrapped.engine)
            load_from_any_place(wrapped.engine)
        return super().create_scheduler(*args, **kwargs)

    @property
    def gradient_norm(self) -> float:
        """The norm of all gradients of the last optimizer step, before they were clipped."""
        return float(self._norm or 0.0)

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        self._norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        return self._norm

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self._has_whole_weights:
            reload_weights(self.model, Path(resume_from_checkpoint))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        if self._has_whole_weights:
            reload_weights(self.model, Path(self.state.best_model_checkpoint))
        else:
            super()._load_best_model()

    @property
    def _has_whole_weights(self) -> bool:
        """Whether a checkpoint's model files are what is loaded from it: no adapter's, and no parts of DeepSpeed's."""
        return not self.is_deepspeed_enabled and not isinstance(self.model, PeftModel)


def ddp_options(config: PretrainedConfig) -> DistributedDataParallelKwargs:
    """How DDP wraps a model of `config`: its gradients lie in the buckets that are summed, not beside them.

    Buffers are the same on all ranks from the start. Parameters without a gradient, which cost a look at the whole
    graph in each step, there are only beside text: in the towers that it does not run through.
    """
    return DistributedDataParallelKwargs(
        gradient_as_bucket_view=True,
        broadcast_buffers=False,
        find_unused_parameters=bool(towers(config)),
    )

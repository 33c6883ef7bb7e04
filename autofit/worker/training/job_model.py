"""The model of a job: with its real weights for the full run, with random ones for a probe."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from peft import LoraConfig
from transformers import PreTrainedModel, set_seed
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from trl.models import enable_selective_activation_checkpointing

from autofit.domain.event import Tell
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.quantization import Quantization
from autofit.probing.protocol import Job
from autofit.worker.model.adapters import lora_config
from autofit.worker.model.configuration import load_config
from autofit.worker.model.loading import build_model, load_model, without_zero_3
from autofit.worker.model.loading_bar import Hear, weights_heard
from autofit.worker.model.packed_weights import stored_packing
from autofit.worker.model.quantization import bits_config, settle, stored_bits
from autofit.worker.model.random_weights import quantized_model
from autofit.worker.model.streamable import why_not_divided, why_not_streamed
from autofit.worker.rank.torch_dtypes import TORCH_DTYPES
from autofit.worker.training.checkpointing_arguments import checkpoint_as_told


def pretrained_model(job: Job, device: torch.device, *, hear: Hear, tell: Tell) -> PreTrainedModel:
    """The model with its real weights, on `device` or, under ZeRO-3, in this rank's partitions: each goes there from
    the file, or `tell` hears why not. `hear` hears of each of them."""
    return _checkpointable(_loaded(job, weights_dtype(job), device, hear=hear, tell=tell), job)


def pretrained_reference(job: Job, device: torch.device, *, hear: Hear, tell: Tell) -> PreTrainedModel:
    """The model of `pretrained_model` a second time, frozen and in the rung's dtype."""
    return _frozen(_loaded(job, TORCH_DTYPES[job.strategy.rung.dtype], device, hear=hear, tell=tell))


def _loaded(job: Job, dtype: torch.dtype, device: torch.device, *, hear: Hear, tell: Tell) -> PreTrainedModel:
    model, trust_remote_code, rung = job.request.model, job.request.trust_remote_code, job.strategy.rung
    scores = _scores(job)
    if scores:  # the head is new: drawn by the seed, whatever the stage
        set_seed(job.request.training.seed)
    known = partial(load_model, model, trust_remote_code=trust_remote_code, scores=scores)
    load = partial(known, dtype=dtype, attention=rung.attention)
    if rung.quantization is not Quantization.NONE or stored_packing(model) is not None:
        bits = None if stored_bits(model) else bits_config(rung.quantization, dtype)
        with weights_heard(hear):
            return _quantized(partial(load, device=device, bits=bits), dtype, tell)
    why_not = why_not_streamed(model, trust_remote_code=trust_remote_code, scores=scores)
    with weights_heard(hear):
        if why_not is not None:
            tell(f"The weights take longer to load and more host memory than usual: {why_not}.")
            return load()
        if not is_deepspeed_zero3_enabled():
            return load(device=device)
        from autofit.worker.model.streaming import streamed_partitions  # not before its versions are known

        with streamed_partitions():
            return load()


def random_model(job: Job) -> PreTrainedModel:
    """The model with random weights, made on the device: reads the config and nothing else."""
    return _checkpointable(_made(job, weights_dtype(job)), job)


def random_reference(job: Job) -> PreTrainedModel:
    """The same a second time, frozen and in the rung's dtype."""
    return _frozen(_made(job, TORCH_DTYPES[job.strategy.rung.dtype]))


def _made(job: Job, dtype: torch.dtype) -> PreTrainedModel:
    scores = _scores(job)
    config = load_config(job.request.model, trust_remote_code=job.request.trust_remote_code, scores=scores)
    rung, device = job.strategy.rung, device_of(job)
    bits = stored_bits(job.request.model) or bits_config(rung.quantization, dtype)
    if bits is not None:
        make = partial(
            quantized_model, config, bits, dtype=dtype, attention=rung.attention, device=device, scores=scores
        )
        return _quantized(make, dtype, tell=lambda note: None)
    with _fast_weights(), device:
        return build_model(config, dtype=dtype, attention=rung.attention, scores=scores)


def _quantized(load: Callable[[], PreTrainedModel], dtype: torch.dtype, tell: Tell) -> PreTrainedModel:
    """The model that `load` makes of weights that are quantised one by one, and under ZeRO-3 divided one by one, or
    `tell` hears why not."""
    if not is_deepspeed_zero3_enabled():
        model = load()
    elif (why_not := why_not_divided()) is not None:
        tell(f"Every rank holds all of the quantised weights while they are loaded: {why_not}.")
        with without_zero_3():
            model = load()
    else:
        from autofit.worker.model.divided_layers import divided  # not before its versions are known

        model = divided(load)
    settle(model, dtype)
    return model


def device_of(job: Job) -> torch.device:
    """Where the job's ranks have their tensors, each its own."""
    return torch.device("cuda" if job.kind is DeviceKind.CUDA else "cpu")


def _frozen(model: PreTrainedModel) -> PreTrainedModel:
    frozen: PreTrainedModel = model.eval().requires_grad_(False)
    return frozen


def _checkpointable(model: PreTrainedModel, job: Job) -> PreTrainedModel:
    """The model, which is checkpointed as the rung says however often that is turned off and on, and keeps attention's
    output where its layers are computed again, if the rung says so."""
    checkpoint_as_told(model)
    if job.strategy.rung.gradient_checkpointing is GradientCheckpointing.SELECTIVE:
        enable_selective_activation_checkpointing(model)
    return model


def weights_dtype(job: Job) -> torch.dtype:
    """The dtype of the model's weights: the rung's, and fp32 where they are trained without an engine, which would keep
    a copy of them in fp32; LOMO and AdaLomo keep none. An adapter PEFT makes in fp32 by itself."""
    rung = job.strategy.rung
    is_kept_whole = job.deepspeed_config is None and rung.method is Method.FULL and not rung.optimizer.is_fused
    return torch.float32 if is_kept_whole else TORCH_DTYPES[rung.dtype]


def saved_dtype(job: Job) -> torch.dtype | None:
    """The dtype in which the trained model is saved, where that is not the one in which it trains."""
    return TORCH_DTYPES[job.strategy.rung.dtype] if job.deepspeed_config is None else None


def peft_config(job: Job, model: PreTrainedModel) -> LoraConfig | None:
    if job.strategy.rung.method is not Method.LORA:
        return None
    return lora_config(job.request.lora, model, scores=_scores(job))


def _scores(job: Job) -> bool:
    return job.request.task.traits.scores


@contextlib.contextmanager
def _fast_weights() -> Iterator[None]:
    """Draws uniform weights in one pass: a probe's numbers have no meaning, they only must stay finite."""
    normal_, trunc_normal_ = torch.nn.init.normal_, torch.nn.init.trunc_normal_

    def uniform_(tensor: torch.Tensor, mean: float = 0.0, std: float = 0.02, *_: Any, **__: Any) -> torch.Tensor:
        return tensor.data.uniform_(mean - std, mean + std)

    torch.nn.init.normal_, torch.nn.init.trunc_normal_ = uniform_, uniform_
    try:
        yield
    finally:
        torch.nn.init.normal_, torch.nn.init.trunc_normal_ = normal_, trunc_normal_

"""The model of a job: with its real weights for the full run, with random ones for a probe."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from peft import LoraConfig
from transformers import PreTrainedModel

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.method import Method
from autofit.probing.protocol import Job
from autofit.worker.model.adapters import lora_config
from autofit.worker.model.configuration import load_config
from autofit.worker.model.loading import build_model, load_model
from autofit.worker.rank.torch_dtypes import TORCH_DTYPES


def pretrained_model(job: Job) -> PreTrainedModel:
    """The model with its real weights. Under ZeRO-3 transformers divides them while it loads."""
    rung = job.strategy.rung
    return load_model(
        job.request.model,
        dtype=TORCH_DTYPES[rung.dtype],
        trust_remote_code=job.request.trust_remote_code,
        attention=rung.attention,
    )


def random_model(job: Job) -> PreTrainedModel:
    """The model with random weights, made on the device: reads the config and nothing else."""
    config = load_config(job.request.model, trust_remote_code=job.request.trust_remote_code)
    rung = job.strategy.rung
    with _fast_weights(), torch.device("cuda" if job.kind is DeviceKind.CUDA else "cpu"):
        return build_model(config, dtype=TORCH_DTYPES[rung.dtype], attention=rung.attention)


def peft_config(job: Job, model: PreTrainedModel) -> LoraConfig | None:
    if job.strategy.rung.method is not Method.LORA:
        return None
    return lora_config(job.request.lora, model)


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

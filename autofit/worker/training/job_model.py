"""The model of a job: with its real weights for the full run, with random ones for a probe."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.method import Method
from autofit.domain.request import Lora
from autofit.probing.protocol import Job
from autofit.worker.rank.torch_dtypes import TORCH_DTYPES


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(model)


def pretrained_model(job: Job) -> PreTrainedModel:
    """The model with its real weights. Under ZeRO-3 transformers divides them while it loads."""
    return AutoModelForCausalLM.from_pretrained(job.request.model, **_options(job))


def random_model(job: Job) -> PreTrainedModel:
    """The model with random weights, made on the device: reads the config and nothing else."""
    config = AutoConfig.from_pretrained(job.request.model)
    with _fast_weights(), torch.device("cuda" if job.kind is DeviceKind.CUDA else "cpu"):
        return AutoModelForCausalLM.from_config(config, **_options(job))


def peft_config(job: Job) -> LoraConfig | None:
    if job.strategy.rung.method is not Method.LORA:
        return None
    return lora_config(job.request.lora)


def lora_config(lora: Lora) -> LoraConfig:
    """The config of the adapters of a training, a probe and a trace alike."""
    return LoraConfig(r=lora.r, lora_alpha=lora.alpha, target_modules=list(lora.target_modules), task_type="CAUSAL_LM")


def _options(job: Job) -> dict[str, Any]:
    rung = job.strategy.rung
    return {"dtype": TORCH_DTYPES[rung.dtype], "attn_implementation": rung.attention.value}


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

"""A family's training at its smallest: one rank on a CPU, rows of a moment."""

from __future__ import annotations

import json
from pathlib import Path

from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.method import Method
from autofit.domain.request import Lora
from autofit.domain.strategy import Strategy
from autofit.planning.export.deepspeed_config import deepspeed_config
from autofit.probing.protocol import Job
from tests.builders import make_request, make_rung, make_shape
from tests.models.families import HIDDEN

TOKENS, ROWS = 32, 2
LORA = Lora(r=8, target_modules=("all-linear",))
SHAPE = make_shape("tiny", 2, 2 * HIDDEN, 10**6)  # sizes DeepSpeed's buckets and nothing else


def model_class(config: PretrainedConfig) -> type[PreTrainedModel]:
    return AutoModelForCausalLM._model_mapping[type(config)]


def attention_of(config: PretrainedConfig) -> Attention:
    """torch's own kernel where the model's class has it."""
    return Attention.SDPA if model_class(config)._supports_sdpa else Attention.EAGER


def job_of(model: Path, *, method: Method = Method.FULL, zero_stage: int = 3) -> Job:
    request = make_request(model, TOKENS, global_batch=ROWS, lora=LORA, ranks=1)
    rung = make_rung(zero_stage, method=method, attention=attention_of(AutoConfig.from_pretrained(model)))
    strategy = Strategy(rung, ROWS, 1)
    config = json.dumps(deepspeed_config(strategy, request, SHAPE, DeviceKind.CPU))
    return Job(request, strategy, config, DeviceKind.CPU, 1)

"""Hugging Face training arguments of a job: autofit's own, and those that the user added after `--`."""

from __future__ import annotations

import argparse
import difflib
import json
import warnings
from typing import Any, NoReturn

from transformers import HfArgumentParser
from trl import SFTConfig

from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import MIXED
from autofit.domain.knobs.method import Method
from autofit.domain.request import Request
from autofit.planning.data.batch_widths import PAD_TO_MULTIPLE
from autofit.probing.protocol import Job

# Arguments that autofit sets itself, with the flag of autofit that takes their place.
_OURS = {
    "output_dir": "--output-dir",
    "deepspeed": "--zero-stage and --offload",
    "per_device_train_batch_size": "--micro-batch",
    "per_device_eval_batch_size": "--micro-batch",
    "gradient_accumulation_steps": "--batch-size",
    "gradient_checkpointing": "--gradient-checkpointing",
    "activation_checkpointing": "--gradient-checkpointing",
    "max_length": "--seq",
    "completion_only_loss": "--learn",
    "assistant_only_loss": "--learn",
    "num_train_epochs": "--epochs",
    "max_steps": "--max-steps",
    "learning_rate": "--learning-rate",
    "save_steps": "--save-steps",
    "seed": "--seed",
    "report_to": "--report-to",
    "bf16": "--dtype",
    "fp16": "--dtype",
    "use_cpu": "--ranks",
    "resume_from_checkpoint": "--resume",
    "fsdp": "--zero-stage",
    "model_init_kwargs": "--attention and --dtype",
}
# Arguments that nothing takes the place of, with the reason.
_FIXED = {
    "train_sampling_strategy": "the probes need to know the order of the rows",
    "accelerator_config": "it would divide the global batch in another way than was chosen",
    "average_tokens_across_devices": "what a step learns would hang on the number of devices",
}
_LEARNING_RATES = {Method.FULL: 2e-5, Method.LORA: 2e-4}


class _Parser(HfArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"training arguments after `--`: {message}")


def extra_arguments(words: tuple[str, ...]) -> dict[str, Any]:
    """The fields of SFTConfig that `words` set; UsageError for unknown ones, wrong values and those autofit owns."""
    parser = _Parser(SFTConfig, add_help=False, allow_abbrev=False)
    for action in parser._actions:  # only what the user wrote may override our own values
        action.default = argparse.SUPPRESS
        action.required = False
    known, unknown = parser.parse_known_args(list(words))
    names = [word.lstrip("-").split("=")[0].replace("-", "_") for word in unknown if word.startswith("--")]
    if unknown:
        raise UsageError(_unknown_sentence(names[0] if names else unknown[0]))
    for name in vars(known):
        if name in _OURS:
            raise UsageError(f"training argument --{name} is autofit's to set; use {_OURS[name]} instead")
        if name in _FIXED:
            raise UsageError(f"training argument --{name} is autofit's to set: {_FIXED[name]}")
    return dict(vars(known))


def _unknown_sentence(name: str) -> str:
    near = difflib.get_close_matches(name, SFTConfig.__dataclass_fields__, n=1)
    hint = f"; did you mean --{near[0]}?" if near else "; see the fields of trl's SFTConfig"
    return f"there is no training argument --{name}{hint}"


def learning_rate(request: Request, method: Method) -> float:
    """The learning rate of the user, or the default of the method: an adapter starts from nothing and takes ten times
    as much."""
    return request.training.learning_rate or _LEARNING_RATES[method]


def sft_config(job: Job, *, output_path: str, overrides: dict[str, Any]) -> SFTConfig:
    """The trainer's arguments of `job`; `overrides` are what a probe or the full run does differently."""
    request, strategy = job.request, job.strategy
    rung = strategy.rung
    values: dict[str, Any] = {
        "output_dir": output_path,
        "per_device_train_batch_size": strategy.micro_batch,
        "per_device_eval_batch_size": strategy.micro_batch,
        "gradient_accumulation_steps": strategy.gradient_accumulation,
        "max_length": request.sequence_length,
        "pad_to_multiple_of": PAD_TO_MULTIPLE[job.kind],
        "learning_rate": learning_rate(request, rung.method),
        "seed": request.training.seed,
        **{dtype.value: rung.dtype is dtype for dtype in MIXED},
        "use_cpu": job.kind is DeviceKind.CPU,
        "gradient_checkpointing": rung.gradient_checkpointing,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "prediction_loss_only": True,
        "disable_tqdm": True,
        "deepspeed": json.loads(job.deepspeed_config),
    }
    values |= extra_arguments(request.training.extra_arguments)
    values |= overrides
    with warnings.catch_warnings():
        # The name of gradient checkpointing changes between the versions that we support; both take the old one.
        warnings.filterwarnings("ignore", category=FutureWarning)
        return SFTConfig(**values)

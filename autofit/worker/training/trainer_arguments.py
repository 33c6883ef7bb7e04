"""Hugging Face training arguments of a job: autofit's own, and those that the user added after `--`."""

from __future__ import annotations

import argparse
import difflib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import trl
from transformers import HfArgumentParser

from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import MIXED
from autofit.domain.knobs.optimizer import LEARNING_RATES, TRAINER_NAMES
from autofit.domain.request import Request
from autofit.domain.strategy import Rung
from autofit.domain.task import Task
from autofit.planning.data.batch_widths import PAD_TO_MULTIPLE
from autofit.planning.gradient_clipping import clipping_norm
from autofit.probing.protocol import Job
from autofit.worker.training.argument_fields import FIXED, GONE, OURS
from autofit.worker.training.checkpointing_arguments import checkpointing_arguments
from autofit.worker.training.generation_arguments import engine_configuration, generation_arguments
from autofit.worker.training.schedule_arguments import schedule_arguments

_BATCH_SIZES = ("per_device_train_batch_size", "per_device_eval_batch_size")


class _Parser(HfArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"training arguments after `--`: {message}")


def config_class(task: Task) -> type[Any]:
    """trl's class of the arguments of a task's trainer."""
    found: type[Any] = getattr(trl, task.traits.config)
    return found


def extra_arguments(request: Request) -> dict[str, Any]:
    """The fields of the task's configuration that the words after `--` set; UsageError for unknown ones, wrong values
    and those autofit owns."""
    words, task = request.training.extra_arguments, request.task
    for name in _names(words):
        _check_free(name.removeprefix("no_"))  # which the parser puts before a switch to turn it off
    parser = _Parser(config_class(task), add_help=False, allow_abbrev=False)
    parser.add_argument("--warmup_ratio", "--warmup-ratio", type=float)
    for action in parser._actions:  # only what the user wrote may override our own values
        action.default = argparse.SUPPRESS
        action.required = False
    known, unknown = parser.parse_known_args(list(words))
    if unknown:
        raise UsageError(_unknown_sentence([*_names(unknown), *unknown][0], task))
    return _with_warmup_steps(dict(vars(known)))


def _names(words: Sequence[str]) -> list[str]:
    return [word.lstrip("-").split("=")[0].replace("-", "_") for word in words if word.startswith("--")]


def _check_free(name: str) -> None:
    if name in OURS:
        raise UsageError(f"training argument --{name} is autofit's to set; use {OURS[name]} instead")
    if name in FIXED:
        raise UsageError(f"training argument --{name} cannot be set here: {FIXED[name]}")


def _unknown_sentence(name: str, task: Task) -> str:
    if name in GONE:
        return f"there is no training argument --{name} any more: {GONE[name]}"
    near = difflib.get_close_matches(name, config_class(task).__dataclass_fields__, n=1)
    where = f"they are the fields of trl's {task.traits.config}, {task.traits.arguments_url}"
    hint = f"did you mean --{near[0]}?" if near else where
    return f"there is no training argument --{name}; {hint}"


def _with_warmup_steps(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with transformers 4's warmup_ratio in transformers 5's words: warmup_steps below 1 are a share of all
    steps."""
    ratio = fields.pop("warmup_ratio", None)
    if ratio is None:
        return fields
    if "warmup_steps" in fields:
        raise UsageError("training arguments --warmup_ratio and --warmup_steps say the same: give one of them")
    if not 0 <= ratio < 1:
        raise UsageError(f"training argument --warmup_ratio {ratio:g} is no share of the steps: give one from 0 to 1")
    return {**fields, "warmup_steps": ratio}


def learning_rate(request: Request, rung: Rung) -> float:
    """The learning rate of the user, or the default of the optimizer, the method and the task."""
    usual = LEARNING_RATES[rung.optimizer][rung.method] * request.task.traits.learning_rate_factor
    return request.training.learning_rate or usual


def request_arguments(request: Request) -> dict[str, Any]:
    """The trainer's arguments that the request alone decides: the same for the survey, a probe and the full run."""
    extra = extra_arguments(request)
    return {
        **_offered(request.task, _lengths(request)),
        "seed": request.training.seed,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "prediction_loss_only": True,
        "disable_tqdm": True,
        **schedule_arguments(request, extra),
        **extra,
    }


def _lengths(request: Request) -> dict[str, Any]:
    """How long rows may be, and how many answers are generated, by the names of all configurations."""
    return {
        "max_length": request.sequence_length,
        "max_completion_length": request.completion_tokens,
        "num_generations": request.generation.count,
    }


def _offered(task: Task, values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `values` that the task's configuration has."""
    fields = config_class(task).__dataclass_fields__
    return {name: value for name, value in values.items() if name in fields}


def job_arguments(job: Job, *, output_path: str, overrides: Mapping[str, Any]) -> Any:
    """The trainer's arguments of `job`; `overrides` are what a probe does differently."""
    strategy, rung, asked = job.strategy, job.strategy.rung, request_arguments(job.request)
    values = {
        "output_dir": output_path,
        "per_device_train_batch_size": strategy.micro_batch,
        "per_device_eval_batch_size": strategy.micro_batch,
        "gradient_accumulation_steps": strategy.gradient_accumulation,
        **_offered(job.request.task, {"pad_to_multiple_of": PAD_TO_MULTIPLE[job.kind]}),
        "learning_rate": learning_rate(job.request, rung),
        **_optim(rung),
        **{dtype.value: rung.dtype is dtype for dtype in MIXED},
        "use_cpu": job.kind is DeviceKind.CPU,
        "deepspeed": engine_configuration(job),
        **asked,
        **generation_arguments(job),
        **_fused_arguments(job),
        **checkpointing_arguments(rung.gradient_checkpointing, asked),
        **overrides,
    }
    return _made(job.request.task, values)


def _optim(rung: Rung) -> dict[str, str]:
    return {"optim": TRAINER_NAMES[rung.optimizer]} if rung.optimizer in TRAINER_NAMES else {}


def _fused_arguments(job: Job) -> dict[str, Any]:
    """What differs where LOMO or AdaLomo updates: where it clips, and without an engine the weights are of the rung's
    dtype, so that nothing is left for autocast."""
    optimizer, words = job.strategy.rung.optimizer, job.request.training.extra_arguments
    if not optimizer.is_fused:
        return {}
    without_autocast = dict.fromkeys((dtype.value for dtype in MIXED), False)
    is_plain = job.deepspeed_config is None
    return {"max_grad_norm": clipping_norm(optimizer, words), **(without_autocast if is_plain else {})}


def stand_in_arguments(request: Request, *, output_path: str) -> Any:
    """The full run's arguments for a trainer of the same data and another model: on the CPU, without DeepSpeed, and
    nothing of it leaves this machine."""
    apart = {"output_dir": output_path, "use_cpu": True, "bf16": False, "push_to_hub": False}
    # What hangs on the model or on the device is checked apart.
    of_the_model: dict[str, Any] = dict.fromkeys(("activation_offloading", "precompute_ref_log_probs"), False)
    of_the_model |= {"router_aux_loss_coef": None}
    if request.task.traits.generates:
        # A reference would be loaded from the model's folder; a batch must be whole groups of answers.
        of_the_model |= {"beta": 0.0, "sync_ref_model": False}
        of_the_model |= dict.fromkeys(_BATCH_SIZES, request.generation.count)
    return _made(request.task, request_arguments(request) | apart | _offered(request.task, of_the_model))


def _made(task: Task, values: Mapping[str, Any]) -> Any:
    with warnings.catch_warnings():
        # The name of gradient checkpointing changes between the versions that we support; both take the old one.
        warnings.filterwarnings("ignore", category=FutureWarning)
        return config_class(task)(**values)

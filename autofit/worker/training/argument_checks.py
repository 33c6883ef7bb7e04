"""What can be said of training arguments before anything is started, each as one sentence of what to do."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # exported without a word
from torch.utils.checkpoint import checkpoint

from autofit.domain.errors import UsageError
from autofit.domain.request import Request
from autofit.planning.gradient_clipping import gradient_clipping
from autofit.worker.model.configuration import load_config
from autofit.worker.training.argument_fields import CHECKPOINTING_KWARGS, GENERATION_KEYS, GENERATION_OURS
from autofit.worker.training.checkpointing_arguments import RUNG_KEYS
from autofit.worker.training.optimizers import check_optimizer
from autofit.worker.training.schedule_arguments import schedule_arguments

_CHECKPOINTING_KEYS = {"preserve_rng_state"}  # beside those of torch's own function
_NOT_IN_JSON = {"function", "args", "kwargs", "context_fn"}
_NEEDS_GPU = "needs a GPU: without one activations lie in host memory already"
_NEED_EVALUATION = {
    "eval_on_start": (True,),
    "eval_strategy": ("steps", "epoch"),
    "load_best_model_at_end": (True,),
    "lr_scheduler_type": ("reduce_lr_on_plateau", "greedy"),
    "save_strategy": ("best",),
}


def check_arguments(request: Request, extra: Mapping[str, Any]) -> None:
    """Checks `extra`, the request's training arguments after `--`; UsageError for the first that would end the training
    later, or would do nothing."""
    gradient_clipping(request.training.extra_arguments)
    check_optimizer(request)
    for trouble in _troubles(request, extra):
        raise UsageError(f"training argument {trouble}")


def _troubles(request: Request, extra: Mapping[str, Any]) -> Iterator[str]:
    yield from _evaluation(request, extra)
    yield from _best_model(request, extra)
    yield from _hub(request, extra)
    yield from _checkpointing(extra)
    if "generation_kwargs" in extra:
        yield from (f"--generation_kwargs {trouble}" for trouble in _generation_kwargs(extra["generation_kwargs"]))
    yield from _router(request, extra)
    if extra.get("activation_offloading") and _is_on_cpu():
        yield f"--activation_offloading {_NEEDS_GPU}"
    if extra.get("use_liger_kernel") and importlib.util.find_spec("liger_kernel") is None:
        yield "--use_liger_kernel needs a package that is not installed: pip install liger-kernel"


def _evaluation(request: Request, extra: Mapping[str, Any]) -> Iterator[str]:
    if request.has_evaluation:
        return
    for name, values in _NEED_EVALUATION.items():
        if (value := extra.get(name)) in values:
            word = str(value).lower() if isinstance(value, bool) else value
            yield f"--{name} {word} needs data to evaluate on: add --eval-data DATA or --eval-fraction SHARE"


def _best_model(request: Request, extra: Mapping[str, Any]) -> Iterator[str]:
    metric = extra.get("metric_for_best_model", "loss")
    if metric not in ("loss", "eval_loss"):
        yield f"--metric_for_best_model {metric}: an evaluation here has eval_loss alone"
    values = {**schedule_arguments(request, extra), **extra}
    saving, evaluation = values["save_strategy"], values["eval_strategy"]
    if saving != "best" and not extra.get("load_best_model_at_end"):
        return
    if "no" in (saving, evaluation) or saving not in ("best", evaluation):
        yield (
            f"--save_strategy {saving} with --eval_strategy {evaluation}: the best model is chosen among checkpoints "
            "that are evaluated, and here are none; give both the same, steps or epoch, or leave one out"
        )


def _hub(request: Request, extra: Mapping[str, Any]) -> Iterator[str]:
    if "trackio" in request.training.report_to and extra.get("trackio_space_id"):
        yield from _hub_login("trackio_space_id")
    if not extra.get("push_to_hub"):
        return
    name = extra.get("hub_model_id")
    if name is None:
        yield "--push_to_hub needs the name of the repository: add --hub_model_id USER/NAME"
        return
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        yield f"--hub_model_id {name} is no name of a repository: {error}"
    yield from _hub_login("push_to_hub")


def _hub_login(name: str) -> Iterator[str]:
    """What keeps the argument from writing to the hub, as far as this machine alone tells."""
    if constants.HF_HUB_OFFLINE:
        yield f"--{name} cannot reach the hub while HF_HUB_OFFLINE is set"
    if huggingface_hub.get_token() is None:
        yield f"--{name} needs a login: run `hf auth login`, or set HF_TOKEN"


def _checkpointing(extra: Mapping[str, Any]) -> Iterator[str]:
    for name in CHECKPOINTING_KWARGS:
        if name in extra:
            yield from (f"--{name} {trouble}" for trouble in _checkpointing_kwargs(extra[name]))


def _checkpointing_kwargs(text: str) -> Iterator[str]:
    kwargs = _json_object(text)
    if kwargs is None:
        yield f"{text} is no JSON object, such as '{{\"use_reentrant\": false}}'"
        return
    for key in RUNG_KEYS.keys() & kwargs.keys():
        yield f"{text}: {key} is autofit's to set; use --gradient-checkpointing {RUNG_KEYS[key]}"
    known = _CHECKPOINTING_KEYS | RUNG_KEYS.keys() | set(inspect.signature(checkpoint).parameters) - _NOT_IN_JSON
    if unknown := sorted(set(kwargs) - known):
        yield f"{text}: {unknown[0]} is none of {', '.join(sorted(known - RUNG_KEYS.keys()))}"


def _generation_kwargs(text: str) -> Iterator[str]:
    """What would generate in another way than an estimate counts: a row for each answer, a pass for each token."""
    kwargs = _json_object(text)
    if kwargs is None:
        yield f"{text} is no JSON object, such as '{{\"suppress_tokens\": [7]}}'"
        return
    for key in GENERATION_OURS.keys() & kwargs.keys():
        yield f"{text}: {key} is autofit's to set; use {GENERATION_OURS[key]}"
    if others := sorted(set(kwargs) - GENERATION_KEYS):
        known = ", ".join(sorted(GENERATION_KEYS))
        yield f"{text}: {others[0]} is none of those that leave a generation's memory as it is estimated: {known}"


def _json_object(text: str) -> dict[str, Any] | None:
    """What `text` says; None where it is no object."""
    try:
        return dict(json.loads(text).items())
    except (AttributeError, ValueError):
        return None


def _router(request: Request, extra: Mapping[str, Any]) -> Iterator[str]:
    coefficient = extra.get("router_aux_loss_coef")
    if not coefficient:
        return
    config = load_config(request.model, trust_remote_code=request.trust_remote_code).get_text_config()
    if not hasattr(config, "output_router_logits"):
        yield f"--router_aux_loss_coef {coefficient}: a {config.model_type} has no router of experts to weigh"


def _is_on_cpu() -> bool:
    return os.environ.get("DS_ACCELERATOR") == "cpu"

"""What a probe of the user's own script must not do: tell a tracker, evaluate, or save weights, which nobody needs."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import deepspeed
import peft
import safetensors.torch
import torch
import transformers
from transformers.utils.hub import PushToHubMixin

MANY_STEPS = 10**6  # a probe ends before
_ASKED = "_steps_asked_for"

_TRACKERS_OFF = {
    "WANDB_MODE": "disabled",
    "COMET_MODE": "disabled",
    "NEPTUNE_MODE": "debug",
    "SWANLAB_MODE": "disabled",
    "CLEARML_OFFLINE_MODE": "1",
}


def keep_away(scratch: Path) -> None:
    """Patches this process, before the script runs. Trackers write to `scratch`, and weights go nowhere else."""
    scratch = scratch.resolve()
    _turn_trackers_off(scratch)
    _shorten_training()
    _save_nothing(scratch)


def _turn_trackers_off(scratch: Path) -> None:
    os.environ.update(_TRACKERS_OFF)
    os.environ["MLFLOW_TRACKING_URI"] = scratch.joinpath("mlruns").as_uri()
    os.environ["TRACKIO_DIR"] = str(scratch / "trackio")
    accelerate.Accelerator.init_trackers = _nothing()
    of_config = deepspeed.runtime.config.get_monitor_config
    deepspeed.runtime.config.get_monitor_config = lambda config: of_config({})


def _shorten_training() -> None:
    post_init = transformers.TrainingArguments.__post_init__
    values: dict[str, Any] = {
        "save_strategy": "no",
        "eval_on_start": False,
        "load_best_model_at_end": False,
        "report_to": "none",
        "push_to_hub": False,
        "max_steps": MANY_STEPS,
        "disable_tqdm": True,
    }

    @functools.wraps(post_init)
    def shortened(self: transformers.TrainingArguments) -> None:
        if self.max_steps != MANY_STEPS:  # otherwise it is a copy of arguments that were shortened already
            self.__dict__[_ASKED] = self.max_steps
        for name, value in values.items():
            if hasattr(self, name):
                setattr(self, name, value)
        if self.eval_strategy != "no":  # it stays on in name: early stopping and some schedules insist
            self.eval_strategy, self.eval_steps = "steps", MANY_STEPS
            self.metric_for_best_model = self.metric_for_best_model or "loss"
        post_init(self)

    transformers.TrainingArguments.__post_init__ = shortened


def asked_steps(arguments: transformers.TrainingArguments) -> int | None:
    """What `max_steps` was before it was shortened, -1 included; None where that is not known any more."""
    steps: int | None = arguments.__dict__.get(_ASKED)
    return steps


def _save_nothing(scratch: Path) -> None:
    for name in ("save_model", "save_state", "_save_checkpoint", "push_to_hub", "create_model_card"):
        setattr(transformers.Trainer, name, _nothing())
    for name in ("save_checkpoint", "save_16bit_model", "save_fp16_model"):
        setattr(deepspeed.DeepSpeedEngine, name, _nothing(True))
    for name in ("save_state", "save_model"):
        setattr(accelerate.Accelerator, name, _nothing())
    PushToHubMixin.push_to_hub = _nothing()
    for owner, name, path_name in (
        (torch, "save", "f"),
        (safetensors.torch, "save_file", "filename"),
        (transformers.PreTrainedModel, "save_pretrained", "save_directory"),
        (transformers.PreTrainedTokenizerBase, "save_pretrained", "save_directory"),
        (transformers.PreTrainedConfig, "save_pretrained", "save_directory"),
        (transformers.GenerationConfig, "save_pretrained", "save_directory"),
        (transformers.ProcessorMixin, "save_pretrained", "save_directory"),
        (peft.PeftModel, "save_pretrained", "save_directory"),
    ):
        setattr(owner, name, _only_within(scratch, getattr(owner, name), path_name))


def _nothing(result: Any = None) -> Callable[..., Any]:
    return lambda *args, **kwargs: result


def _only_within(folder: Path, write: Callable[..., Any], path_name: str) -> Callable[..., Any]:
    """A `write` that does nothing for paths outside of `folder`. A file that is open already is written."""
    signature = inspect.signature(write)

    @functools.wraps(write)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        path = signature.bind(*args, **kwargs).arguments[path_name]
        if isinstance(path, (str, os.PathLike)) and not Path(path).resolve().is_relative_to(folder):
            return None
        return write(*args, **kwargs)

    return guarded

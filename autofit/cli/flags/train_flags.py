"""The flags of `autofit train`, `autofit plan` and `autofit compare`: their names, their kind and one line of help."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import click

from autofit.domain.knobs.knob import Knob
from autofit.domain.knobs.method import METHOD
from autofit.domain.knobs.pins import PINNABLE
from autofit.domain.objective import Objective
from autofit.domain.task import Task

from .flag import F, flag
from .quantity import Amount, Count, DevicePrice, Share, Size, Tokens
from .recipe import apply_recipe
from .value import Folder, Names, Pinned, RewardSource, Switch, Tasks, Word, is_switch

_WHAT = "What to train"
_WHERE = "Where, and for how long"
_FIT = "How much memory and speed"
_PINS = "Pins: each one narrows the search, none is needed"
_RUN = "The run"
_OUTPUT = "Output"

_COUNT = Count(min=1)
_POSITIVE = Amount(min=0, max=1e6, min_open=True)  # and no more than clocks, steps and rates of a training can be


def _pin(knob: Knob[Any], section: str) -> Callable[[F], F]:
    assert knob.flag is not None
    settings: dict[str, Any] = {"is_flag": False, "flag_value": "on"} if is_switch(knob) else {}
    return flag(
        knob.name, *knob.flag.names, section=section, metavar=knob.flag.metavar, help=knob.flag.help,
        type=Pinned(knob), **settings,
    )  # fmt: skip


CHEAPEST = "cost"
"""The objective that only a plan has."""

_TASK = flag(
    "task", "--task", section=_WHAT, metavar="TASK", default=Task.SFT.value,
    type=click.Choice([task.value for task in Task]),
    help="sft, reward, dpo, kto or grpo: what the data teaches; sft.",
)  # fmt: skip

_FLAGS: tuple[Callable[[F], F], ...] = (
    flag("recipe", "--recipe", section=_WHAT, metavar="FILE", is_eager=True, expose_value=False, callback=apply_recipe,
         type=click.Path(exists=True, dir_okay=False, path_type=Path),
         help="A YAML file of flags; those of the command line win."),
    flag("model", "--model", "--model-name-or-path", section=_WHAT, metavar="MODEL", required=True,
         type=Word(), help="A local folder or a hub id."),
    _TASK,
    flag("data", "--data", "--dataset-name", "--train-file", section=_WHAT, metavar="DATA",
         type=Word(),
         help="A json, jsonl, csv or parquet file, a folder of them or a hub id. Without it: the sample that ships."),
    flag("eval_data", "--eval-data", "--validation-file", section=_WHAT, metavar="DATA",
         type=Word(), help="Data to evaluate on."),
    flag("eval_fraction", "--eval-fraction", section=_WHAT, metavar="SHARE", default=0.0,
         type=Amount(0, 1, max_open=True), help="Share of the data that is kept for evaluation."),
    flag("learn", "--learn", section=_WHAT, metavar="assistant|all", default="assistant",
         type=click.Choice(["assistant", "all"]),
         help="Of chats the assistant's turns and of pairs the answer, or all of both; assistant."),
    flag("allow_drop", "--allow-drop", section=_WHAT, metavar="[SHARE]", is_flag=False, flag_value=1.0, default=0.05,
         type=Share(0, 1), help="Share of the rows that may be lost, too long or empty; 0.05, or all."),
    flag("seq", "--seq", "--max-length", "--max-seq-length", "--sequence-length", section=_WHAT, metavar="TOKENS",
         type=_COUNT, default=2048, help="Longest sequence; 2048 unless told."),
    flag("batch_size", "--batch-size", "--global-batch", section=_WHAT, metavar="N", type=_COUNT,
         help="Rows of one optimizer step over all devices, of grpo answers; 32 unless told. Never changed."),
    flag("reward", "--reward", section=_WHAT, metavar="REWARD[=WEIGHT]", multiple=True, type=RewardSource(),
         help="What rewards an answer of grpo: module:function, or a reward model's folder or hub id. Repeatable."),
    flag("num_generations", "--num-generations", section=_WHAT, metavar="N", type=_COUNT,
         help="Answers of grpo to each prompt; 8."),
    flag("completion_tokens", "--completion-tokens", "--max-completion-length", section=_WHAT, metavar="TOKENS",
         type=_COUNT, help="Longest answer of grpo, a part of --seq; 512, or half of --seq."),
    _pin(METHOD, _WHAT),
    flag("lora_r", "--lora-r", section=_WHAT, metavar="N", type=_COUNT, default=64, help="LoRA's rank; 64."),
    flag("lora_alpha", "--lora-alpha", section=_WHAT, metavar="N", type=_COUNT, default=32, help="LoRA's alpha; 32."),
    flag("lora_target_modules", "--lora-target-modules", section=_WHAT, metavar="NAMES", type=Names(),
         default="auto", help="Modules that LoRA adapts: names, globs, all-linear, or auto, which the family tells."),
    flag("lora_exclude_modules", "--lora-exclude-modules", section=_WHAT, metavar="NAMES", type=Names(), default="",
         help="Names or globs of modules that LoRA leaves as they are."),
    flag("trust_remote_code", "--trust-remote-code", section=_WHAT, is_flag=True,
         help="Run code that lies beside the model's weights; never unless told."),
    flag("memory_limit", "--memory-limit", section=_FIT, metavar="SIZE", type=Size(),
         help="Use no more than this on each device: 24GiB, 900MB."),
    flag("ranks", "--ranks", section=_FIT, metavar="N", type=_COUNT, help="Devices to use; all of them unless told."),
    flag("probe_timeout", "--probe-timeout", section=_FIT, metavar="SECONDS", type=_POSITIVE, default=600.0,
         help="Give a probe up that shows no progress for so long; 600, within a step less."),
    flag("optimize", "--optimize", section=_FIT, metavar="GOAL", default=Objective.SPEED.value,
         type=click.Choice([*(objective.value for objective in Objective), CHEAPEST]),
         help="speed, memory, energy or balanced: the best product of SpeedUp and MemoryUp, and of EnergyUp where "
         "energy is measured; for plan cost, too: the cheapest machine; speed."),
    flag("baseline", "--baseline", section=_FIT, metavar="STRATEGY",
         type=Word(),
         help="What these ratios are of, such as zero1; plain data parallel, or the plainest that fits, unless told."),
    flag("allow", "--allow", section=_FIT, metavar="NAMES", type=Names(), default="",
         help="What may be tried though it changes the training: adamw_8bit, lomo, nf4, ..., or last-resorts: "
         "all of them, each where nothing before it fits. Nothing unless told."),
    *(_pin(knob, _PINS) for knob in PINNABLE if knob is not METHOD),
    flag("micro_batch", "--micro-batch", "--per-device-train-batch-size", section=_PINS, metavar="N", type=_COUNT,
         help="Rows on one device at a time."),
    flag("accumulation", "--gradient-accumulation-steps", section=_PINS, type=_COUNT, hidden=True),
    flag("bf16", "--bf16", section=_PINS, type=Switch(), is_flag=False, flag_value="on", hidden=True),
    flag("fp16", "--fp16", section=_PINS, type=Switch(), is_flag=False, flag_value="on", hidden=True),
    flag("epochs", "--epochs", "--num-train-epochs", section=_RUN, metavar="N", type=_POSITIVE, default=3.0,
         help="Times through the data; 3."),
    flag("max_steps", "--max-steps", section=_RUN, metavar="N", type=Count(min=-1),
         help="Optimizer steps, in place of epochs."),
    flag("learning_rate", "--learning-rate", "--lr", section=_RUN, metavar="RATE", type=_POSITIVE,
         help="Unless told, AdamW's 2e-5, of LoRA 2e-4, or another optimizer's own; of dpo, kto and grpo a twentieth."),
    flag("save_steps", "--save-steps", section=_RUN, metavar="N", type=_COUNT, default=500,
         help="Steps between two checkpoints; 500."),
    flag("max_lost_minutes", "--max-lost-minutes", section=_RUN, metavar="MINUTES", type=_POSITIVE, default=15.0,
         help="Save so often by the clock, too, that an end at any moment costs no more; 15."),
    flag("grace_seconds", "--grace-seconds", section=_RUN, metavar="SECONDS", type=_POSITIVE, default=90.0,
         help="After SIGTERM, SIGUSR1 or SIGUSR2 save within so long, as the scheduler gives; 90."),
    flag("no_step_down", "--no-step-down", section=_RUN, is_flag=True,
         help="End where the run lacks memory, rather than go on from its checkpoint by a rung that needs less."),
    flag("resume", "--resume", "--resume-from-checkpoint", section=_RUN, metavar="[CHECKPOINT]", is_flag=False,
         flag_value="", help="Start from this checkpoint; unless told, from the last one in the run folder."),
    flag("seed", "--seed", section=_RUN, metavar="N", type=Count(min=0, max=2**32 - 1), default=42,
         help="42 unless told."),
    flag("on_divergence", "--on-divergence", section=_RUN, metavar="stop|warn", default="stop",
         type=click.Choice(["stop", "warn"]),
         help="When loss or gradients are not finite or explode for some steps: stop, or go on and say so; stop."),
    flag("report_to", "--report-to", section=_RUN, metavar="NAMES", type=Names(), multiple=True,
         help="tensorboard, wandb, ...; none unless told."),
    flag("merge", "--merge", section=_RUN, is_flag=True, help="Write the model with LoRA merged into it, too."),
    flag("dry_run", "--dry-run", section=_RUN, is_flag=True, help="Print the ladder and stop."),
    flag("tolerance", "--tolerance", section=_FIT, metavar="SHARE", type=Share(min=0, max=1, min_open=True),
         help="Search until nothing left can be faster by more than this, 1%, whatever it takes; unless told, as long "
         "as it saves the training more time than it costs."),
    flag("exhaustive", "--exhaustive", section=_FIT, is_flag=True,
         help="Probe everything that may fit, and tell how near the search alone came."),
    flag("output_dir", "--output-dir", section=_OUTPUT, metavar="FOLDER", type=Folder(),
         help="The run folder; autofit-runs/MODEL[-TASK]-TOKENS unless told. The same again goes on where it stopped."),
    flag("json", "--json", section=_OUTPUT, is_flag=True, help="One JSON object at the end, and nothing else."),
)  # fmt: skip


_ON = flag(
    "on", "--on", section=_WHERE, metavar="MACHINE", multiple=True,
    help="8xA100-80GB, 2x8xV100-32GB or gpus=8,memory=48GiB,tflops=150; several are compared. "
         "Without it: the machine here.",
)  # fmt: skip

_PLAN_FLAGS: tuple[Callable[[F], F], ...] = (
    _ON,
    flag("rehearse", "--rehearse", section=_WHERE, is_flag=True,
         help="Measure the pick and its rivals on one device here: rank 0 of the job, without its neighbours."),
    flag("tokens", "--tokens", section=_WHERE, metavar="N", type=Tokens(),
         help="Tokens of the whole training, 300M or 1e9: tells hours and energy."),
    flag("price", "--price", section=_WHERE, metavar="[NAME=]AMOUNT", multiple=True, type=DevicePrice(),
         help="Price of a device-hour, in any currency, of all machines or of the one that --on calls NAME: tells the "
              "price of --tokens. Repeatable."),
)  # fmt: skip

_TASKS = flag(
    "tasks", "--tasks", section=_WHAT, metavar="TASKS", default=Task.SFT.value, type=Tasks(),
    help="Some of sft, reward, dpo, kto and grpo, a comma between them: what is compared, in this order; sft.",
)  # fmt: skip

TRAIN_ONLY = frozenset((
    "data", "eval_data", "eval_fraction", "learn", "allow_drop", "probe_timeout", "epochs", "max_steps",
    "learning_rate", "save_steps", "resume", "seed", "on_divergence", "report_to", "merge", "dry_run", "exhaustive",
    "tolerance", "output_dir", "max_lost_minutes", "grace_seconds", "no_step_down",
))  # fmt: skip
"""Names of parameters that a plan takes in silence, so that a training's command line and recipe are a plan's too."""

UNCOMPARED = (TRAIN_ONLY - {"data", "learn", "allow_drop", "probe_timeout", "output_dir"}) | {"optimize"}
"""Names of parameters that change no figure of a comparison, which takes them in silence."""


def train_flags(function: F) -> F:
    """Puts all flags of `autofit train` on `function`, in the order of the help."""
    return _with(_FLAGS, function)


def plan_flags(function: F) -> F:
    """Puts all flags of `autofit plan` on `function`: the training's, and where and for how long."""
    return _with((*_PLAN_FLAGS, *_FLAGS), function)


def compare_flags(function: F) -> F:
    """Puts all flags of `autofit compare` on `function`: the training's with several tasks, and where."""
    return _with((_ON, *(_TASKS if one is _TASK else one for one in _FLAGS)), function)


def _with(flags: tuple[Callable[[F], F], ...], function: F) -> F:
    return reduce(lambda wrapped, add: add(wrapped), reversed(flags), function)

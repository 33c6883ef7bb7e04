"""How long a training goes on, and when it saves and evaluates: the flags, and the words after `--`.

What neither says follows what the other needs: transformers keeps the best model only where it is saved when it is
evaluated (5.23, `_validate_args` in training_args.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from autofit.domain.request import Request
from autofit.planning.plan.checkpoint_size import KEPT_COUNT


def schedule_arguments(request: Request, extra: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the request's schedule. `extra` (training arguments after `--`) goes before them, and is left
    out here."""
    training = request.training
    values: dict[str, Any] = {
        "num_train_epochs": training.epochs,
        "max_steps": training.max_steps if training.max_steps is not None else -1,
        "save_strategy": "steps",
        "save_steps": training.save_steps,
        "save_total_limit": KEPT_COUNT,
        "eval_strategy": "steps" if request.has_evaluation else "no",
        "eval_steps": training.save_steps,
        "report_to": list(training.report_to) or "none",
    }
    values.update(_for_best_model({**values, **extra}, extra))
    return {name: value for name, value in values.items() if name not in extra}


def schedule_notes(request: Request, extra: Mapping[str, Any], steps: int) -> tuple[str, ...]:
    """What people are told of the best model in a training of so many steps."""
    if not extra.get("load_best_model_at_end"):
        return ()
    values = {**schedule_arguments(request, extra), **extra}
    save_steps, eval_steps = values["save_steps"], values["eval_steps"]
    notes = []
    if save_steps != request.training.save_steps:
        every = f"{save_steps:g} of the steps" if save_steps < 1 else f"{save_steps:g} steps"
        notes.append(f"the best model is chosen among checkpoints that are evaluated: one is saved every {every}")
    if values["eval_strategy"] == "steps" and steps < eval_steps:
        notes.append(
            f"the best model is the last one: {steps} steps are less than the {eval_steps:g} from one evaluation to "
            "the next; give fewer as `-- --eval_steps N`"
        )
    return tuple(notes)


def _for_best_model(values: Mapping[str, Any], extra: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What load_best_model_at_end and save_strategy best want of the fields that the user left to autofit."""
    if values["save_strategy"] == "best":
        yield "metric_for_best_model", "loss"
        return
    if not values.get("load_best_model_at_end"):
        return
    strategy = values["eval_strategy"] if "eval_strategy" in extra else values["save_strategy"]
    yield "save_strategy", strategy
    yield "eval_strategy", strategy
    if strategy == "steps" and values["eval_steps"]:
        yield "save_steps", _multiple(values["save_steps"], values["eval_steps"])


def _multiple(save_steps: int, eval_steps: float) -> float:
    """The multiple of `eval_steps`, at least one, that comes nearest from below; a share of the training stays one."""
    if eval_steps < 1:
        return eval_steps
    return eval_steps * max(1, int(save_steps // eval_steps))

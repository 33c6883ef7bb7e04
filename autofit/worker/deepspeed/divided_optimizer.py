"""ZeRO-3's optimizer, divided between device and host, as one optimizer: with one schedule and one state that is saved.

DeepSpeed 0.19.8 updates what the device keeps by a second optimizer, torch's AdamW (`backup_optimizer` in
runtime/zero/stage3.py), which nobody tells of the schedule: the first parameter group's keeps the learning rate of the
start. Its moments are in no checkpoint. So before each update it is given the groups and the states of the first one,
which is what schedules set and what checkpoints save and load.
"""

from __future__ import annotations

import functools
from typing import Any

import torch

from autofit.worker.deepspeed.optimizer_loading import OF_A_PLACE


def join_parts(engine: Any) -> None:
    """Has the engine's two optimizers be one; of an engine with one optimizer nothing is changed."""
    zero = engine.optimizer
    if getattr(zero, "backup_optimizer", None) is None:
        return
    update = zero._optimizer_step

    @functools.wraps(update)
    def joined(sub_group: int) -> None:
        _share(zero.optimizer, zero.backup_optimizer)
        _count_steps_as_wanted(zero, sub_group)
        update(sub_group)

    zero._optimizer_step = joined


def _share(one: torch.optim.Optimizer, other: torch.optim.Optimizer) -> None:
    """Gives `other` the groups and the states of `one`, which are new objects once a checkpoint has been loaded."""
    for group in one.param_groups:
        own = {name: other.defaults[name] for name in OF_A_PLACE}  # a checkpoint may have another's
        group.update({**other.defaults, **group, **own})
    other.param_groups, other.state = one.param_groups, one.state


def _count_steps_as_wanted(zero: Any, sub_group: int) -> None:
    """Makes the count of a sub-group's steps what its optimizer takes: on the device a tensor, on the host a number. A
    checkpoint may have it from the other place."""
    state = zero.optimizer.state.get(zero.fp32_partitioned_groups_flat[sub_group])
    if not state:
        return
    is_on_host = zero.subgroup_to_device[sub_group] == "cpu"
    step = state["step"]
    if torch.is_tensor(step) == is_on_host:
        state["step"] = int(step) if is_on_host else torch.tensor(float(step))

"""A checkpoint's optimizer loaded by an engine that keeps its own elsewhere: on the device, on the host, on both.

DeepSpeed 0.19.8 saves the states of ZeRO-3 sub-group by sub-group and loads them into the same ones alone
(_rigid_load_state_dict in runtime/zero/stage3.py). How large sub-groups are is a matter of memory: they are smaller
where the optimizer is divided between device and host. Those of a parameter group lie end to end, in the same order
whatever their size. And torch's optimizers take the options of a checkpoint's groups for their own, as they are.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch

_OPTIMIZER, _MASTERS = "optimizer_state_dict", "fp32_flat_groups"
OF_A_PLACE = ("foreach", "fused", "capturable", "differentiable")
"""Options of torch's optimizers that say how it computes, not what."""
_UNIVERSAL = (
    "load_hp_checkpoint_state_from_checkpoint_dir",  # of ZeRO 1 and 2
    "load_hp_checkpoint_state_from_checkpoint_dir_stage3",
)


def load_from_any_place(engine: Any) -> None:
    """Has an engine load checkpoints whose optimizer lay elsewhere than its own."""
    base = getattr(engine.optimizer, "optimizer", None)
    if isinstance(base, torch.optim.Optimizer):
        base.register_load_state_dict_post_hook(_keep_own_options)
    _load_any_sub_groups(engine.optimizer)
    _mend_universal_loading(engine.optimizer)


def _keep_own_options(optimizer: torch.optim.Optimizer) -> None:
    """Gives an optimizer back what a checkpoint of another class does not say or says for another place: DeepSpeed's
    Adam counts steps in numbers, torch's in tensors, and each has options that the other lacks."""
    for group in optimizer.param_groups:
        own = {name: optimizer.defaults[name] for name in OF_A_PLACE if name in optimizer.defaults}
        group.update({**optimizer.defaults, **group, **own})
        if "foreach" in optimizer.defaults:
            _count_in_tensors(optimizer, group, group["params"])


def _count_in_tensors(
    optimizer: torch.optim.Optimizer, group: Mapping[str, Any], parameters: Sequence[torch.Tensor]
) -> None:
    """Has the steps of parameters be counted as a group's options want it."""
    is_on_device = group.get("fused") or group.get("capturable")
    for parameter in parameters:
        state = optimizer.state.get(parameter, {})
        if "step" in state:
            place = parameter.device if is_on_device else "cpu"
            state["step"] = torch.as_tensor(state["step"], dtype=torch.float32).to(place)


def _load_any_sub_groups(zero: Any) -> None:
    """Has ZeRO-3 load checkpoints of any sub-groups; of another stage nothing is changed."""
    load = getattr(zero, "_rigid_load_state_dict", None)
    if load is None or not hasattr(zero, "fp32_partitioned_groups_flat"):
        return

    @functools.wraps(load)
    def regrouped(state: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        return load(_laid_out(state, _sizes(zero)), *args, **kwargs)

    zero._rigid_load_state_dict = regrouped


def _mend_universal_loading(zero: Any) -> None:
    """Has ZeRO load universal checkpoints so that each parameter group and each sub-group is as it was, and the
    optimizer computes as it does here.

    DeepSpeed 0.19.8 gives all groups of ZeRO-3 what the first one says, the decay of weights too, and all its
    sub-groups one and the same count of steps, so that each of them counts for all.
    """
    for name in (name for name in _UNIVERSAL if hasattr(zero, name)):
        setattr(zero, name, _mended(zero.optimizer, getattr(zero, name)))


def _mended(optimizer: torch.optim.Optimizer, load: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(load)
    def mended(*args: Any, **kwargs: Any) -> None:
        own = [{key: group[key] for key in group if key not in ("params", "lr")} for group in optimizer.param_groups]
        load(*args, **kwargs)
        for group, options in zip(optimizer.param_groups, own, strict=True):
            group.update(options)
        for state in optimizer.state.values():
            if "step" in state:
                state["step"] = copy.deepcopy(state["step"])
        if "foreach" in optimizer.defaults:
            _count_in_tensors(optimizer, optimizer.param_groups[0], [*optimizer.state])

    return mended


def _sizes(zero: Any) -> list[list[int]]:
    """Elements of each sub-group of each parameter group."""
    numbered = groupby(range(len(zero.fp32_partitioned_groups_flat)), key=zero.sub_group_to_group_id.__getitem__)
    return [[zero.fp32_partitioned_groups_flat[number].numel() for number in numbers] for _, numbers in numbered]


def _laid_out(state: dict[str, Any], sizes: Sequence[Sequence[int]]) -> dict[str, Any]:
    """The state in sub-groups of `sizes`; the same one where it lies so, or holds other parameters."""
    saved, masters = state[_OPTIMIZER], state[_MASTERS]
    numbers = [group["params"] for group in saved["param_groups"]]
    there = [[masters[number].numel() for number in group] for group in numbers]
    if there == sizes or [*map(sum, there)] != [*map(sum, sizes)]:
        return state
    pieces = [piece for group, wanted in zip(numbers, sizes, strict=True) for piece in _pieces(state, group, wanted)]
    ends = iter(range(len(pieces)))
    groups = [
        {**group, "params": [next(ends) for _ in wanted]}
        for group, wanted in zip(saved["param_groups"], sizes, strict=True)
    ]
    states = {number: kept for number, (_, kept) in enumerate(pieces) if kept}
    return {
        **state,
        _MASTERS: [master for master, _ in pieces],
        _OPTIMIZER: {**saved, "state": states, "param_groups": groups},
    }


def _pieces(
    state: Mapping[str, Any], numbers: Sequence[int], sizes: Sequence[int]
) -> Iterator[tuple[torch.Tensor, dict[str, Any]]]:
    """The master weights and the states of one parameter group in sub-groups of `sizes`."""
    states = [state[_OPTIMIZER]["state"].get(number, {}) for number in numbers]
    masters = [state[_MASTERS][number] for number in numbers]
    divided = [name for name, value in states[0].items() if torch.is_tensor(value) and value.ndim]
    whole = {name: value for name, value in states[0].items() if name not in divided}
    columns = [torch.cat([one[name] for one in states]).split([*sizes]) for name in divided]
    for index, master in enumerate(torch.cat([master.detach() for master in masters]).split([*sizes])):
        own = {name: column[index] for name, column in zip(divided, columns, strict=True)}
        yield master, {**copy.deepcopy(whole), **own}  # a count of steps goes on in place

"""What a checkpoint of another place holds of an optimizer, laid out as the engine has it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from autofit.worker.deepspeed.optimizer_loading import load_from_any_place


def saved(*groups: list[int]) -> dict[str, Any]:
    """A rank's state of ZeRO-3 in sub-groups of these sizes, by parameter group; every element has a value of its
    own."""
    sizes = [size for group in groups for size in group]
    ends = iter(range(len(sizes)))
    return {
        "fp32_flat_groups": [*torch.arange(sum(sizes), dtype=torch.float32).split(sizes)],
        "optimizer_state_dict": {
            "state": {
                number: {"step": torch.tensor(7.0), "exp_avg": -part}
                for number, part in enumerate(torch.arange(sum(sizes), dtype=torch.float32).split(sizes))
            },
            "param_groups": [{"lr": 0.1, "params": [next(ends) for _ in group]} for group in groups],
        },
    }


def loaded(state: dict[str, Any], *groups: list[int]) -> dict[str, Any]:
    """What an engine with these sub-groups is given of it."""
    found: list[dict[str, Any]] = []
    numbers = [number for number, group in enumerate(groups) for _ in group]
    zero = SimpleNamespace(
        fp32_partitioned_groups_flat=[torch.empty(size) for group in groups for size in group],
        sub_group_to_group_id=dict(enumerate(numbers)),
        _rigid_load_state_dict=found.append,
    )
    load_from_any_place(SimpleNamespace(optimizer=zero))
    zero._rigid_load_state_dict(state)
    return found[0]


@pytest.mark.parametrize("groups", [([10], [3]), ([2, 3, 5], [1, 2]), ([1] * 10, [3])])
def test_sub_groups_are_cut_anew(groups: tuple[list[int], ...]) -> None:
    state = loaded(saved([4, 6], [3]), *groups)
    sizes = [size for group in groups for size in group]
    kept = state["optimizer_state_dict"]
    assert [part.tolist() for part in state["fp32_flat_groups"]] == [
        part.tolist() for part in torch.arange(13, dtype=torch.float32).split(sizes)
    ]
    assert [len(group["params"]) for group in kept["param_groups"]] == [len(group) for group in groups]
    for number, master in enumerate(state["fp32_flat_groups"]):
        assert kept["state"][number]["exp_avg"].tolist() == (-master).tolist()
    steps = [kept["state"][number]["step"] for number in range(len(sizes))]
    assert len({id(step) for step in steps}) == len(steps)  # each goes on counting by itself
    assert {float(step) for step in steps} == {7.0}


@pytest.mark.parametrize("groups", [([4, 6], [3]), ([4, 6], [4])], ids=["the same", "other parameters"])
def test_what_needs_or_bears_no_change_stays(groups: tuple[list[int], ...]) -> None:
    state = saved([4, 6], [3])
    assert loaded(state, *groups) is state


def test_torchs_own_way_to_compute_is_kept() -> None:
    """A checkpoint of DeepSpeed's Adam counts in numbers, and says nothing of how torch computes."""
    parameter = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter], lr=0.1, fused=True)
    load_from_any_place(SimpleNamespace(optimizer=SimpleNamespace(optimizer=optimizer)))
    group = {"lr": 0.05, "betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.0, "bias_correction": True, "params": [0]}
    moments = {"step": 2, "exp_avg": torch.zeros(3), "exp_avg_sq": torch.ones(3)}
    optimizer.load_state_dict({"state": {0: moments}, "param_groups": [group]})
    assert (optimizer.param_groups[0]["fused"], optimizer.param_groups[0]["lr"]) == (True, 0.05)
    parameter.grad = torch.ones(3)
    optimizer.step()
    assert float(optimizer.state[parameter]["step"]) == 3


@pytest.mark.parametrize(
    "name",
    ["load_hp_checkpoint_state_from_checkpoint_dir", "load_hp_checkpoint_state_from_checkpoint_dir_stage3"],
)
def test_a_universal_checkpoint_leaves_every_group_its_own_and_every_part_its_count(name: str) -> None:
    """As DeepSpeed 0.19.8 loads it: all groups by the first, and one count for all; of an optimizer that counts in
    numbers."""
    parts = [nn.Parameter(torch.zeros(2)) for _ in range(2)]
    optimizer = torch.optim.AdamW([{"params": parts[:1], "weight_decay": 0.1}, {"params": parts[1:]}], weight_decay=0.0)

    def load(folder: str) -> None:
        for group in optimizer.param_groups:
            group.update({"lr": 0.5, "weight_decay": 0.1, "foreach": False, "params": []})
        for part in parts:
            optimizer.state[part] = {"step": 7, "exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2)}

    zero = SimpleNamespace(optimizer=optimizer, **{name: load})
    load_from_any_place(SimpleNamespace(optimizer=zero))
    getattr(zero, name)("folder")
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.5, 0.1), (0.5, 0.0)]
    assert [group["foreach"] for group in optimizer.param_groups] == [None, None]
    for group, part in zip(optimizer.param_groups, parts, strict=True):
        group["params"], part.grad = [part], torch.ones(2)
    optimizer.step()
    assert [float(optimizer.state[part]["step"]) for part in parts] == [8.0, 8.0]

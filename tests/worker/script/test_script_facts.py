"""What a script's optimizer is seen to be, and what torch's own really keep."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from autofit.planning.optimizer_states import MOMENTS, moment_count
from autofit.worker.deepspeed.engine_hook import EngineCall
from autofit.worker.script.script_facts import optimizer_options

OF_TORCH = [name for name in torch.optim.__all__ if name.lower() in MOMENTS]
CASES: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in OF_TORCH]
CASES += [(name, {option: 0.9}) for name in OF_TORCH for option in sorted(MOMENTS[name.lower()].options)]


def called(config: dict[str, Any] | None = None, **arguments: Any) -> EngineCall:
    """As `deepspeed.initialize` would be, with the `params` of a config's optimizer."""
    call = EngineCall(arguments)
    vars(call)["config"] = SimpleNamespace(optimizer_params=config)
    return call


@pytest.mark.parametrize(("name", "options"), CASES)
def test_it_is_priced_by_what_torch_keeps_after_a_step(name: str, options: dict[str, Any]) -> None:
    parameter = nn.Parameter(torch.ones(7))
    optimizer = getattr(torch.optim, name)([parameter], lr=0.1, **options)
    parameter.grad = torch.ones(7)
    optimizer.step()
    state = optimizer.state[parameter].values()
    kept = sum(value.numel() == 7 for value in state if isinstance(value, torch.Tensor))
    assert moment_count(name, optimizer_options(called(optimizer=optimizer))) == kept


def test_options_are_those_of_any_group_or_of_the_config() -> None:
    one, other = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    groups = [{"params": [one]}, {"params": [other], "momentum": 0.9}]
    assert optimizer_options(called({"momentum": 0.0}, optimizer=torch.optim.SGD(groups, lr=0.1))) == ("momentum",)
    assert optimizer_options(called({"momentum": 0.9, "lr": 1e-3}, optimizer=None)) == ("momentum",)
    assert optimizer_options(called(None, optimizer=None)) == ()
    assert optimizer_options(called(None, optimizer=lambda parameters: None)) == ()

"""torchao's AdamW on flat shares of any length, beside torch's and beside torchao's own."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torchao.optim import AdamW4bit, AdamW8bit

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.optimizer import Optimizer
from autofit.planning.optimizer_states import moments_bytes, step_bytes
from autofit.worker.training import flat_adamw
from autofit.worker.training.flat_adamw import FlatAdamW4bit, FlatAdamW8bit, _FlatAdamW

RATES = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
COUNT = 5 * 2**14 + 37  # of spans, and a rest that no block divides
KINDS = [(FlatAdamW8bit, AdamW8bit, Optimizer.ADAMW_8BIT_BF16), (FlatAdamW4bit, AdamW4bit, Optimizer.ADAMW_4BIT_BF16)]


def share(count: int, dtype: torch.dtype) -> torch.nn.Parameter:
    return torch.nn.Parameter(0.02 * torch.randn(count, generator=torch.Generator().manual_seed(0)).to(dtype))


def stepped(optimizer: torch.optim.Optimizer, steps: int = 3) -> torch.Tensor:
    """The weights after some steps with the same gradients each time."""
    (weight,) = optimizer.param_groups[0]["params"]
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        weight.grad = torch.randn(len(weight), generator=generator).to(weight.dtype)
        optimizer.step()
    return weight.detach().clone()


@pytest.mark.parametrize(("kind", "theirs", "optimizer"), KINDS, ids=lambda one: getattr(one, "__name__", ""))
def test_the_last_elements_learn_as_the_others_do(kind: type[_FlatAdamW], theirs: Any, optimizer: Optimizer) -> None:
    began = share(COUNT, torch.float32).detach()
    moved = stepped(kind([share(COUNT, torch.float32)], **RATES)) - began
    exact = stepped(torch.optim.AdamW([share(COUNT, torch.float32)], **RATES)) - began
    last, others = (float((moved - exact)[part].norm() / exact[part].norm()) for part in (slice(-37, None), slice(-37)))
    assert last < 2 * others < 1.2, "codes of 4 bits are coarse, at the end as in the middle"


@pytest.mark.parametrize(("kind", "theirs", "optimizer"), KINDS, ids=lambda one: getattr(one, "__name__", ""))
def test_its_states_take_what_is_planned_where_torchao_leaves_them_in_bf16(
    kind: type[_FlatAdamW], theirs: Any, optimizer: Optimizer
) -> None:
    ours = kind([weight := share(COUNT, torch.bfloat16)], **RATES)
    stepped(ours, steps=1)
    moments = [ours.state[weight][name] for name in ("exp_avg", "exp_avg_sq")]
    held_bytes = sum(part.untyped_storage().nbytes() for one in moments for part in (one.codes, one.scale))
    assert held_bytes == moments_bytes(optimizer, COUNT)
    assert step_bytes(optimizer, DeviceKind.CUDA, 10**9) == step_bytes(optimizer, DeviceKind.CUDA, 10**8) < 3 * 10**8
    assert type(theirs([weight], lr=1e-3)._new_buffer(weight, True)) is torch.Tensor, "no reason for this class is left"


@pytest.mark.parametrize(("kind", "theirs", "optimizer"), KINDS, ids=lambda one: getattr(one, "__name__", ""))
def test_it_goes_on_from_its_saved_states_to_the_last_digit(
    kind: type[_FlatAdamW], theirs: Any, optimizer: Optimizer
) -> None:
    first = kind([share(COUNT, torch.bfloat16)], **RATES)
    weights = torch.nn.Parameter(stepped(first))
    torch.save(first.state_dict(), file := io.BytesIO())
    file.seek(0)
    second = kind([weights], **RATES)
    second.load_state_dict(torch.load(file, weights_only=False))
    ends = []
    for optimizer_ in (first, second):
        torch.manual_seed(7)
        ends.append(stepped(optimizer_))
    assert torch.equal(*ends)


def test_bf16_weights_move_on_average_by_less_than_they_can_be_told_apart() -> None:
    """Rounded to nearest they would not move at all: a learning rate of 1e-6 is a hundredth of their last bit."""
    weight = torch.nn.Parameter(torch.full((2**16,), 0.03, dtype=torch.bfloat16))
    began = float(weight.detach().float().mean())
    optimizer = FlatAdamW8bit([weight], **(RATES | {"lr": 1e-6, "weight_decay": 0.0}))
    torch.manual_seed(0)
    for _ in range(20):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
    moved = began - float(weight.detach().float().mean())
    assert moved == pytest.approx(2e-5, rel=0.1)


@pytest.mark.slow  # a compiler's work
@pytest.mark.parametrize("kind", [FlatAdamW8bit, FlatAdamW4bit])
def test_compiled_as_on_a_gpu_it_makes_the_same_steps(kind: type[_FlatAdamW], monkeypatch: pytest.MonkeyPatch) -> None:
    """In fp32, where nothing is rounded at random."""
    began, plain = share(COUNT, torch.float32).detach(), stepped(kind([share(COUNT, torch.float32)], **RATES))
    monkeypatch.setattr(flat_adamw, "_adamw", flat_adamw._compiled_adamw())
    optimizer = kind([share(COUNT, torch.float32)], **RATES)
    assert float((stepped(optimizer) - plain).norm()) < 1e-4 * float((plain - began).norm())
    for number in range(10):  # torch compiles a function eight times at most
        optimizer.param_groups[0]["lr"] = 1e-3 / (number + 1)  # as a schedule may write it, that knows of no tensors
        stepped(optimizer, steps=1)

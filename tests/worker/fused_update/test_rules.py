"""A parameter in slices, each updated by itself, comes to what one process has of the whole."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch

from autofit.worker.fused_update import blocks as blocks_module
from autofit.worker.fused_update import lomo as lomo_module
from autofit.worker.fused_update.adalomo import AdaLomo
from autofit.worker.fused_update.blocks import blocks
from autofit.worker.fused_update.lomo import Lomo
from autofit.worker.fused_update.rounding import StochasticRounding
from autofit.worker.fused_update.rule import ParameterSlice, Rule, Step
from tests.worker.fused_update.reference import AdaLomoReference

RATE, DECAY, STEPS = 0.05, 0.1, 4
SHAPES = [(13, 7), (1, 9), (3, 5, 4), (6, 1, 4), (11,), (2, 40)]


class Ranks:
    """Ranks of one process, each in a thread, that add up tensors."""

    def __init__(self, count: int) -> None:
        self._barrier = threading.Barrier(count, timeout=60)
        self._parts: list[torch.Tensor] = []

    def add(self, tensor: torch.Tensor) -> None:
        self._parts.append(tensor.clone())
        self._barrier.wait()
        total = torch.stack(self._parts).sum(0)
        if self._barrier.wait() == 0:
            self._parts.clear()
        self._barrier.wait()
        tensor.copy_(total)


def run_all(bodies: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def updated(
    make: Callable[[], Rule], weight: torch.Tensor, gradients: list[torch.Tensor], rank_count: int
) -> torch.Tensor:
    """The weight after all steps, in which each rank updates its slice of it in place."""
    whole, length, ranks = weight.clone(), -(-weight.numel() // rank_count), Ranks(rank_count)

    def body(rank: int) -> Callable[[], None]:
        rule, place = make(), slice(rank * length, (rank + 1) * length)
        part = ParameterSlice(3, weight.shape, whole.view(-1)[place], rank * length, ranks.add)

        def run() -> None:
            for number, gradient in enumerate(gradients, 1):
                rule.update(part, gradient.reshape(-1)[place].clone(), Step(number, RATE, DECAY))

        return run

    run_all([body(rank) for rank in range(rank_count)])
    return whole


def reference(
    make: Callable[..., torch.optim.Optimizer], weight: torch.Tensor, gradients: list[torch.Tensor]
) -> torch.Tensor:
    parameter = torch.nn.Parameter(weight.clone())
    optimizer = make([parameter], lr=RATE, weight_decay=DECAY)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


@pytest.mark.parametrize("chunk", [8, 10**6])
@pytest.mark.parametrize("rank_count", [1, 2, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_slices_come_to_the_whole(
    shape: tuple[int, ...], rank_count: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a slice begins and ends, and however its elements are gone through."""
    monkeypatch.setattr(blocks_module, "CHUNK_ELEMENTS", chunk)
    monkeypatch.setattr(lomo_module, "CHUNK_ELEMENTS", chunk)
    torch.manual_seed(0)
    weight = torch.randn(shape)
    gradients = [torch.randn(shape) for _ in range(STEPS)]
    rounding = StochasticRounding(0)
    for make, plain in ((Lomo, torch.optim.SGD), (AdaLomo, AdaLomoReference)):
        ours = updated(lambda make=make: make(rounding), weight, gradients, rank_count)  # type: ignore[misc]
        theirs = reference(plain, weight, gradients)
        moved = (theirs - weight).abs().max()
        assert moved > 0
        assert (ours - theirs).abs().max() <= 2e-6 * max(1.0, float(moved))


@pytest.mark.parametrize("chunk", [5, 12, 10**6])
@pytest.mark.parametrize("shape", [(7, 5), (4, 2, 3), (3, 1, 2)], ids=str)
def test_blocks_hold_each_element_once_in_its_place(
    shape: tuple[int, ...], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks_module, "CHUNK_ELEMENTS", chunk)
    numbers = torch.arange(1.0, 1 + torch.Size(shape).numel())
    matrices = numbers.view(-1, *shape[-2:])
    for first in range(len(numbers)):
        for end in range(first, len(numbers) + 1):
            seen = torch.zeros_like(matrices)
            for one in blocks(torch.Size(shape), first, end - first):
                block = one.filled(numbers[first:end])
                assert block.numel() <= max(chunk, shape[-1])
                assert block.numel() < len(numbers[one.part]) + 2 * shape[-1]  # no more than the rows that it touches
                seen[one.matrices, one.rows] += block
            expected = torch.zeros_like(numbers)
            expected[first:end] = numbers[first:end]
            assert torch.equal(seen.view(-1), expected)


def test_a_row_of_tokens_that_never_came_only_decays() -> None:
    """As the rows of an embedding's padding, whose gradient is 0 in each step."""
    weight = torch.randn(5, 4)
    gradient = torch.randn(5, 4).index_fill_(0, torch.tensor([2]), 0.0)
    ours = updated(lambda: AdaLomo(StochasticRounding(0)), weight, [gradient] * 2, 1)
    shrunk = ours[2] / weight[2]  # by the weight decay alone
    torch.testing.assert_close(shrunk, shrunk[:1].expand(4))
    assert 0.9 < float(shrunk[0]) < 1.0
    assert (ours[1] - shrunk[0] * weight[1]).abs().max() > RATE / 10
    nothing = updated(lambda: AdaLomo(StochasticRounding(0)), weight, [torch.zeros(5, 4)] * 2, 1)
    assert nothing.isfinite().all()

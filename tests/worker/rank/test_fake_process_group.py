"""The process group of rehearsals, as rank 0 of 64: what DeepSpeed, accelerate and torch's own functions ask of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import _coalescing_manager
from torch.distributed.nn import functional
from torch.profiler import ProfilerActivity, profile

from autofit.worker.rank import fake_process_group

RANKS = 64
ROW = torch.tensor([1.0, 2.0, 3.0])
ALL = ROW.repeat(RANKS)


@pytest.fixture(scope="module", autouse=True)
def _joined() -> Iterator[None]:
    fake_process_group.join(RANKS)
    yield
    dist.destroy_process_group()


def empty() -> torch.Tensor:
    return torch.full((RANKS * 3,), float("nan"))


def test_a_gather_is_one_copy_of_the_ranks_own_data() -> None:
    gathered = empty()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        dist.all_gather_into_tensor(gathered, ROW)
    assert torch.equal(gathered, ALL)
    assert sum(event.count for event in profiled.key_averages() if event.key == "aten::copy_") == 1


def test_what_is_gathered_may_lie_where_it_is_gathered() -> None:
    """As DeepSpeed's ZeRO-1 and 2 do: the own part is a piece of the flat weights."""
    gathered = empty()
    gathered[:3] = ROW
    dist.all_gather_into_tensor(gathered, gathered[:3])
    assert torch.equal(gathered, ALL)
    pieces = list(gathered.zero_().chunk(RANKS))
    pieces[0].copy_(ROW)
    dist.all_gather(pieces, pieces[0])
    assert torch.equal(gathered, ALL)


@pytest.mark.parametrize("shape", [(2, 2), (), (0,)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int64, torch.bool])
def test_any_shape_and_dtype_is_gathered_asynchronously_too(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    part, gathered = torch.ones(shape, dtype=dtype), torch.zeros((RANKS, *shape), dtype=dtype)
    work = dist.all_gather_into_tensor(gathered, part, async_op=True)
    assert work is not None
    work.wait()
    assert bool((gathered == part).all())


def test_several_gathers_may_be_one() -> None:
    """As DeepSpeed gathers a module's parameters under ZeRO-3."""
    gathered = [empty(), empty()]
    with _coalescing_manager(device=torch.device("cpu"), async_ops=True) as works:
        for output in gathered:
            dist.all_gather_into_tensor(output, ROW, async_op=True)
    works.wait()
    assert all(torch.equal(output, ALL) for output in gathered)


def test_autograd_sees_nothing_of_a_gather() -> None:
    """The loss of a router is gathered while it requires a gradient."""
    parameter, gathered = torch.nn.Parameter(ROW.clone()), empty()
    dist.all_gather_into_tensor(gathered, parameter * 1)
    copies = [torch.empty(3) for _ in range(RANKS)]
    dist.all_gather(copies, parameter * 1)
    assert torch.equal(gathered, ALL)
    assert not gathered.requires_grad
    assert all(torch.equal(copy, ROW) and not copy.requires_grad for copy in copies)


def test_functions_that_are_differentiated_through_keep_their_gradient() -> None:
    parameter = torch.nn.Parameter(ROW.clone())
    gathered = functional.all_gather(parameter)
    assert all(torch.equal(copy, ROW) for copy in gathered)
    torch.stack(gathered).sum().backward()
    assert parameter.grad is not None
    assert parameter.grad.shape == ROW.shape


def test_objects_barriers_and_parts_of_the_group() -> None:
    objects: list[object] = [None] * RANKS
    dist.all_gather_object(objects, {"rank": 0})
    assert objects == [{"rank": 0}] * RANKS
    sent = [{"from": 0}]
    dist.broadcast_object_list(sent)
    assert sent == [{"from": 0}]
    dist.barrier()
    few = dist.new_group(range(8))
    gathered = torch.zeros(24)
    dist.all_gather_into_tensor(gathered, ROW, group=few)
    assert torch.equal(gathered, ROW.repeat(8))
    assert dist.new_group([1, 2]) is dist.GroupMember.NON_GROUP_MEMBER


def test_a_sum_is_this_ranks_own() -> None:
    row = ROW.clone()
    dist.all_reduce(row)
    dist.broadcast(row, 0)
    assert torch.equal(row, ROW)


@pytest.mark.parametrize("is_unused", [False, True])
def test_ddp_takes_its_gradients_from_sums(is_unused: bool) -> None:
    """Of the second step on as well, in which it looks whether the first one's sums are there."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    ddp = torch.nn.parallel.DistributedDataParallel(
        model[0] if is_unused else model, gradient_as_bucket_view=True, find_unused_parameters=is_unused
    )
    for _ in range(3):
        ddp.zero_grad()
        with ddp.no_sync():
            ddp(ROW).sum().backward()
        ddp(ROW).sum().backward()
        gradients = [parameter.grad for parameter in ddp.parameters()]
        assert all(gradient is not None and bool(gradient.any()) for gradient in gradients)

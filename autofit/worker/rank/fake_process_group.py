"""The process group of a rehearsal: rank 0 of many, whose collectives return at once.

torch's own fake group but for its gathers and its sums. Its gathers copy a rank's data once for each rank, 64 kernels
where one will do, which made steps under ZeRO-3 far too long. And autograd sees those copies: it refuses them on torch
2.11 where the data require a gradient, as a router's loss does. Its sums hand nothing on, and DDP wants its gradients.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FakeWork, _create_work_from_future  # type: ignore[attr-defined]
from torch.testing._internal.distributed import fake_pg

_NAME = "rehearsal"
_DEVICES = ["cpu", "cuda"]


def join(rank_count: int) -> None:
    """Makes this process rank 0 of `rank_count`; what it gathers is its own data, from every rank."""
    dist.Backend.register_backend(_NAME, _create, extended_api=True, devices=_DEVICES)
    dist.init_process_group(_NAME, rank=0, world_size=rank_count, store=fake_pg.FakeStore())


def _create(options: Any, backend_options: Any) -> dist.ProcessGroup:
    """Creates a group of all ranks or, for `new_group`, of some."""
    return _Group(fake_pg._create_fake_pg(options, backend_options))


class _Group(dist.ProcessGroup):
    """The gathers, each by its name in torch 2.13 and in 2.11, and the sum; `backend` does everything else."""

    def __init__(self, backend: Any) -> None:
        super().__init__(backend.rank(), backend.size())  # type: ignore[call-arg]
        self._set_default_backend(dist.ProcessGroup.BackendType.CUSTOM)
        for device in _DEVICES:
            self._register_backend(torch.device(device), dist.ProcessGroup.BackendType.CUSTOM, backend)

    def all_gather_single(self, output: torch.Tensor, input: torch.Tensor, *_: Any) -> dist.Work:
        return self.all_gather_single_coalesced([output], [input])

    def all_gather_single_coalesced(
        self, outputs: list[torch.Tensor], inputs: list[torch.Tensor], *_: Any
    ) -> dist.Work:
        with torch.no_grad():
            for output, part in zip(outputs, inputs, strict=True):
                # copy_ itself would refuse to expand a part that lies in its output, as ZeRO's own part does.
                output.view(self.size(), part.numel()).copy_(part.reshape(1, -1).expand(self.size(), -1))
        return FakeWork()

    def allgather(  # type: ignore[override]
        self, outputs: list[list[torch.Tensor]], inputs: list[torch.Tensor], *_: Any
    ) -> dist.Work:
        with torch.no_grad():
            for copies, part in zip(outputs, inputs, strict=True):
                torch._foreach_copy_(copies, [part] * len(copies))
        return FakeWork()

    def allreduce(self, tensors: list[torch.Tensor], *_: Any) -> dist.Work:  # type: ignore[override]
        """Sums nothing, and hands the tensors on: DDP takes a bucket's gradients from the future of its sum, and the
        fake work's own is empty (torch/csrc/distributed/c10d/comm.cpp, parseHookResult)."""
        summed: torch.futures.Future[list[torch.Tensor]] = torch.futures.Future()
        summed.set_result(tensors)
        work: dist.Work = _create_work_from_future(summed)
        return work

    _allgather_base = all_gather_single  # type: ignore[assignment]
    allgather_into_tensor_coalesced = all_gather_single_coalesced  # type: ignore[assignment]

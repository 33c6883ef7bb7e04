"""Two real ranks whose data choose what of a model runs: experts that are modules of their own, and layers that are
dropped. python -m tests.worker.fused_update.two_ranks FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from autofit.worker.fused_update.adalomo import AdaLomo
from autofit.worker.fused_update.agreement import ModuleUse
from autofit.worker.fused_update.replicated import ReplicatedOptimizer
from autofit.worker.fused_update.rounding import StochasticRounding
from tests.forked_ranks import run_ranks
from tests.worker.fused_update.reference import AdaLomoReference

RANKS, RATE, WIDTH = 2, 0.05, 8
# The experts of each rank in the micro-batches of two steps. Of the first step's second one an expert is used that only
# the other rank has kept a gradient of; in the second step one is used by nobody, and others in the first half alone.
ROUTES = [[[[0, 1], [2]], [[0], [1]]], [[[3], [0]], [[3, 0], [3]]]]


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.experts = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, inputs: torch.Tensor, route: list[int]) -> torch.Tensor:
        hidden = self.before(inputs)
        chosen = sum((self.experts[one](hidden) for one in route), torch.zeros_like(hidden))
        loss: torch.Tensor = self.after(chosen.tanh() + hidden).square().mean()
        return loss


def made() -> Experts:
    torch.manual_seed(0)
    return Experts()


def batch(step: int, rank: int, micro_batch: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(100 * step + 10 * rank + micro_batch)
    return torch.randn(3, WIDTH, generator=generator)


def trained_together(rank: int, group_path: Path) -> Experts:
    store = dist.FileStore(str(group_path), RANKS)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=RANKS)
    model = made()
    groups = [{"params": list(model.parameters())}]
    optimizer = ReplicatedOptimizer(groups, AdaLomo(StochasticRounding(0)), RATE)
    use = ModuleUse(model, optimizer.parameters)
    for step, routes in enumerate(ROUTES):
        for micro_batch, route in enumerate(routes[rank]):
            optimizer.is_boundary = micro_batch == len(routes[rank]) - 1
            loss = model(batch(step, rank, micro_batch), route) / len(routes[rank])
            optimizer.agreement = use.agree(optimizer.kept_numbers, torch.device("cpu"))
            loss.backward()
            optimizer.end_backward()
        optimizer.step()
    return model


def trained_alone() -> Experts:
    """One process that has all gradients before the first update."""
    model = made()
    optimizer = AdaLomoReference(model.parameters(), RATE)
    for step, routes in enumerate(ROUTES):
        for rank, of_rank in enumerate(routes):
            for micro_batch, route in enumerate(of_rank):
                (model(batch(step, rank, micro_batch), route) / (RANKS * len(of_rank))).backward()
        optimizer.step()
        optimizer.zero_grad()
    return model


def main(folder: Path) -> int:
    return run_ranks(RANKS, lambda rank: _leave(rank, folder))


def _leave(rank: int, folder: Path) -> None:
    torch.save(trained_together(rank, folder / "store").state_dict(), folder / f"rank{rank}.pt")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

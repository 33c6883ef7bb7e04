"""One rank of a small training by DeepSpeed's real engine, whose optimizer lies on the device, on the host or on both.

A CPU rank's device is its host. Told to DeepSpeed as `cpu:0`, a sub-group is the device's and updated by torch's AdamW;
as `cpu`, it is the host's and updated by DeepSpeed's Adam. Its compiled part, which takes minutes to build, is played.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deepspeed
import deepspeed.ops.adam.cpu_adam as host_adam
import torch
from accelerate.utils.deepspeed import map_pytorch_optim_to_deepspeed
from deepspeed.accelerator import get_accelerator
from torch import nn
from torch.optim import AdamW

from autofit.worker.deepspeed.divided_optimizer import join_parts
from autofit.worker.deepspeed.optimizer_loading import load_from_any_place
from autofit.worker.rank.process_group import unlink_shared_memory

RATE, WIDTH, STEPS, SAVED = 1e-2, 32, 6, 3


class PlayedAdam:
    """What the compiled part of DeepSpeed's Adam does, in torch."""

    create_adam = destroy_adam = staticmethod(lambda *_: None)

    def load(self) -> PlayedAdam:
        return self

    def adam_update(
        self, _: int, step: Any, rate: float, beta1: float, beta2: float, eps: float, decay: float, *rest: Any
    ) -> None:
        _, weights, gradient, first, second = rest
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        weights.mul_(1 - rate * decay)
        root = (second / (1 - beta2 ** int(step))).sqrt_().add_(eps)
        weights.addcdiv_(first, root, value=-rate / (1 - beta1 ** int(step)))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH, bias=False), nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        changed: torch.Tensor = self.down(torch.relu(self.up(self.norm(values))))
        return values + changed


@dataclass(frozen=True)
class Place:
    """Where the optimizer lies: `ratio` of it on the host; None: no offload."""

    ratio: float | None
    sub_group_size: int = 2048


def make_engine(place: Place, seed: int) -> Any:
    torch.manual_seed(seed)
    model = nn.Sequential(*[Block() for _ in range(6)])
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    others = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = AdamW(groups, lr=RATE, fused=place.ratio is None)
    zero: dict[str, Any] = {
        "stage": 3, "sub_group_size": place.sub_group_size, "stage3_param_persistence_threshold": 0
    }  # fmt: skip
    if place.ratio is not None:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": False, "ratio": place.ratio}
        optimizer = map_pytorch_optim_to_deepspeed(optimizer)
    config = {
        "train_micro_batch_size_per_gpu": 4,
        "zero_optimization": zero,
        "gradient_clipping": 1.0,
        "zero_allow_untested_optimizer": True,
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    join_parts(engine)
    load_from_any_place(engine)
    return engine


def train(place: Place, *, save: Path | None = None, load: Path | None = None) -> tuple[list[float], list[str]]:
    """The loss of each step, the first ones in the checkpoint's stead, and where the sub-groups are."""
    engine = make_engine(place, seed=0 if load is None else 1)
    if load is not None:
        engine.load_checkpoint(str(load))
    losses = []
    for step in range(0 if load is None else SAVED, STEPS):
        for group in engine.optimizer.param_groups:
            group["lr"] = RATE / (1 + step)
        torch.manual_seed(100 + 10 * step + int(os.environ["RANK"]))
        values = torch.randn(4, WIDTH)
        loss = (engine(values) - values.sin()).square().mean()
        engine.backward(loss)
        engine.step()
        losses.append(float(loss))
        if save is not None and step + 1 == SAVED:
            engine.save_checkpoint(str(save))
    return losses, [*getattr(engine.optimizer, "subgroup_to_device", {}).values()]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    host_adam.CPUAdamBuilder = PlayedAdam
    get_accelerator()._name = "cpu:0"
    deepspeed.init_distributed("gloo")
    unlink_shared_memory()
    undivided, half = folder / "undivided", folder / "half"
    found = {
        "undivided": train(Place(None), save=undivided),
        "half": train(Place(0.5), save=half),
        "less": train(Place(0.3)),
        "half goes on": train(Place(0.5), load=half),
        "half goes on with less": train(Place(0.2), load=half),
        "half goes on whole": train(Place(1.0, 10**9), load=half),
        "half goes on undivided": train(Place(None, 10**9), load=half),
        "undivided goes on in part": train(Place(0.5, 700), load=undivided),
        "undivided goes on whole": train(Place(1.0), load=undivided),
    }
    if os.environ["RANK"] == "0":
        (folder / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

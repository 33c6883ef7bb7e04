"""An optimizer divided between the card and its host: DeepSpeed divides it as it is told, and trains as without."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import deepspeed
import torch
import torch.distributed as dist
from _check import Say
from accelerate.utils.deepspeed import map_pytorch_optim_to_deepspeed
from torch import nn

from autofit.domain.hardware import DeviceKind
from autofit.domain.units import format_bytes
from autofit.process.cores import read_cores
from autofit.worker.deepspeed.divided_optimizer import join_parts

_WIDTH, _BLOCKS, _STEPS, _RATE = 1024, 8, 4, 1e-3
_BLOCK_ELEMENTS = 2 * _WIDTH**2
_KEPT_BYTES = 16  # of an element: master weight, gradient and two moments, in fp32


@dataclass(frozen=True)
class _Trained:
    losses: list[float]
    places: list[str]
    states_bytes: int  # that the card holds of the optimizer


def divided_optimizer(kind: DeviceKind, say: Say) -> None:
    """A few steps with half of the optimizer on the card, and with all of it, whose rate falls from step to step."""
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group("nccl", store=dist.FileStore(str(Path(folder, "store")), 1), rank=0, world_size=1)
        deepspeed.init_distributed("nccl")
        whole, half = _train(None), _train(0.5 - 0.1 / _BLOCKS)
    on_card = half.places.count("cuda")
    expected_bytes = _KEPT_BYTES * _BLOCK_ELEMENTS * on_card
    text = f"{on_card} of {len(half.places)} sub-groups are on the card, in {format_bytes(half.states_bytes)}"
    advice = "planning/optimizer_split.py divides otherwise than this DeepSpeed: pin --offload optimizer"
    say(on_card == _BLOCKS // 2 and half.states_bytes == expected_bytes, text, advice, on_card=on_card)
    farthest = max(abs(one - other) for one, other in zip(whole.losses, half.losses, strict=True))
    text = f"the losses of {_STEPS} steps differ by {farthest:.1g} from those without offload"
    say(farthest < 1e-2 * whole.losses[0], text, "a divided optimizer trains otherwise: pin --offload optimizer")
    cores = read_cores()
    nodes = len({core.numa_node for core in cores})
    say.tell(f"{len(cores)} cores on {nodes} NUMA node{'' if nodes == 1 else 's'}", core_count=len(cores))


def _train(ratio: float | None) -> _Trained:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(_WIDTH, _WIDTH, bias=False), nn.Linear(_WIDTH, _WIDTH, bias=False))]
    blocks += [nn.Sequential(nn.GELU(), *[nn.Linear(_WIDTH, _WIDTH, bias=False) for _ in "ab"]) for _ in range(7)]
    model = nn.Sequential(*blocks)
    optimizer: Any = torch.optim.AdamW(model.parameters(), lr=_RATE)
    zero: dict[str, Any] = {"stage": 3, "sub_group_size": _BLOCK_ELEMENTS}
    if ratio is not None:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True, "ratio": ratio}
        optimizer = map_pytorch_optim_to_deepspeed(optimizer)
    config = {
        "train_micro_batch_size_per_gpu": 8,
        "bf16": {"enabled": True},
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    join_parts(engine)
    losses = [_step(engine, number) for number in range(_STEPS)]
    places = [*getattr(engine.optimizer, "subgroup_to_device", {}).values()]
    return _Trained(losses, places, _states_bytes(engine.optimizer))


def _step(engine: Any, number: int) -> float:
    for group in engine.optimizer.param_groups:
        group["lr"] = _RATE / (1 + number)
    torch.manual_seed(number)
    values = torch.randn(8, _WIDTH, device="cuda", dtype=torch.bfloat16)
    loss = (engine(values).float() - values.float()).square().mean()
    engine.backward(loss)
    engine.step()
    return float(loss)


def _states_bytes(zero: Any) -> int:
    """What the card holds of the master weights, their gradients and the moments."""
    masters = [master for master in zero.fp32_partitioned_groups_flat if master.is_cuda]
    moments = [zero.optimizer.state[master][name] for master in masters for name in ("exp_avg", "exp_avg_sq")]
    gradients = [master.grad for master in masters if master.grad is not None]
    return sum(tensor.nbytes for tensor in (*masters, *moments, *gradients))

"""AdaLomo on whole matrices in one process, as its paper's algorithm 1 has it: what slices and blocks must come to."""

from __future__ import annotations

from collections.abc import Iterable

import torch


class AdaLomoReference(torch.optim.Optimizer):
    def __init__(self, params: Iterable[torch.nn.Parameter], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        self._number = 0

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        self._number += 1
        beta = 1.0 - self._number**-0.8
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, beta, group["lr"], group["weight_decay"])

    def _update(self, weight: torch.Tensor, grad: torch.Tensor, beta: float, lr: float, weight_decay: float) -> None:
        square, state = grad**2 + 1e-30, self.state[weight]
        if weight.dim() >= 2:
            rows = _mean(state, "rows", square.mean(-1), beta)
            columns = _mean(state, "columns", square.mean(-2), beta)
            second_moment = rows.unsqueeze(-1) * columns.unsqueeze(-2) / rows.mean(-1, keepdim=True).unsqueeze(-1)
        else:
            second_moment = _mean(state, "squares", square, beta)
        update = grad / second_moment.sqrt()
        update /= max(1.0, float(_rms(update)))
        rate = lr * max(1e-3, float(_rms(weight)))
        weight.mul_(1.0 - rate * weight_decay).sub_(rate * update)


def _mean(state: dict[str, torch.Tensor], name: str, new: torch.Tensor, beta: float) -> torch.Tensor:
    state[name] = beta * state.get(name, torch.zeros_like(new)) + (1.0 - beta) * new
    return state[name]


def _rms(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.square().mean().sqrt()

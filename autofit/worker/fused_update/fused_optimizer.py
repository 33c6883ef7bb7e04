"""An optimizer whose updates are made while gradients are: its own `step` only ends what the backward pass has done."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch

from autofit.planning.fused_update import CHUNK_ELEMENTS
from autofit.probing.protocol import FailureKind
from autofit.worker.rank.failure import KnownFailure

from .agreement import Agreement
from .rule import ParameterSlice, Rule, Step, squares_of

_CLIPPING_EPS = 1e-6  # as torch.nn.utils.clip_grad_norm_ has it


class FusedOptimizer(torch.optim.Optimizer):
    """Hears each gradient as soon as it is complete, uses it and drops it.

    Of micro-batches before the last of a step (`is_boundary` is False) the rank's part of the gradient is kept instead.
    While `measuring` gradients are only looked at. Collectives are in the order in which gradients come, which is the
    same on all ranks; those of `agreement` wait for the end of the backward pass.
    """

    def __init__(self, params: Iterable[dict[str, Any]], rule: Rule, lr: float) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": 0.0})
        self._rule = rule
        self._places = {
            parameter: (number, group) for number, (parameter, group) in enumerate(_with_groups(self.param_groups))
        }
        self._kept: dict[torch.nn.Parameter, torch.Tensor] = {}
        self._heard: set[torch.nn.Parameter] = set()  # in this backward pass
        self._squares: list[torch.Tensor] = []  # of the gradients of this step
        self._scale = 1.0
        self.step_count = 0
        self.is_boundary = True
        self.is_measuring = False
        self.agreement = Agreement()  # of the ranks, on the backward pass that follows
        for parameter in self._places:
            parameter.register_post_accumulate_grad_hook(self._hear)

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """What is trained, in the order of its numbers."""
        return list(self._places)

    @abstractmethod
    def _zeros(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        """The gradient of a parameter that has none."""

    @abstractmethod
    def _own_part(self, gradient: torch.Tensor, parameter: torch.nn.Parameter) -> torch.Tensor:
        """What this rank keeps of a micro-batch's gradient, flat; of memory of its own."""

    @abstractmethod
    def _mean(self, part: torch.Tensor) -> torch.Tensor:
        """The mean over the ranks of what they keep of a whole step's gradient; it may be computed in place."""

    @abstractmethod
    def _slice(self, parameter: torch.nn.Parameter, number: int) -> ParameterSlice:
        """What this rank keeps of a parameter."""

    @abstractmethod
    def _over_ranks(self, squares: torch.Tensor) -> torch.Tensor:
        """The sum of squares of whole gradients, from that of what this rank keeps; it may be computed in place."""

    @torch.no_grad()
    def _hear(self, parameter: torch.nn.Parameter) -> None:
        if parameter in self._heard:
            raise RuntimeError(
                "a parameter has two gradients in one backward pass, as with reentrant checkpointing of layers that "
                "share it: its update comes before the second"
            )
        self._heard.add(parameter)
        if self._places[parameter][0] not in self.agreement.late:
            self._take(parameter, self._dropped(parameter))

    def _dropped(self, parameter: torch.nn.Parameter) -> torch.Tensor:
        """What this rank keeps of the gradient, which is dropped with the return; of none, as of zeros."""
        gradient, parameter.grad = parameter.grad, None
        return self._own_part(self._zeros(parameter) if gradient is None else gradient, parameter)

    def _take(self, parameter: torch.nn.Parameter, part: torch.Tensor) -> None:
        kept = self._kept.get(parameter)
        if self.is_measuring:
            self._measure(part if kept is None else kept + part)
        elif self.is_boundary:
            self._use(parameter, part if kept is None else self._kept.pop(parameter).add_(part))
        elif kept is None:
            self._kept[parameter] = part
        else:
            kept.add_(part)

    def _use(self, parameter: torch.nn.Parameter, part: torch.Tensor) -> None:
        gradient = self._measure(part)
        number, group = self._places[parameter]
        step = Step(self.step_count + 1, group["lr"], group["weight_decay"], self._scale)
        self._rule.update(self._slice(parameter, number), gradient, step)

    def _measure(self, part: torch.Tensor) -> torch.Tensor:
        """The mean gradient, whose squares are counted."""
        gradient = self._mean(part)
        self._squares += [squares_of(piece) for piece in gradient.split(CHUNK_ELEMENTS)]
        return gradient

    @torch.no_grad()
    def end_backward(self) -> None:
        """Takes what did not come on every rank, in one order on all of them, and what was only kept before."""
        heard, agreement = self._heard, self.agreement
        self._heard, self.agreement = set(), Agreement()
        for parameter, (number, _) in self._places.items():
            if number in agreement.late:
                self._take(parameter, self._dropped(parameter))
            elif parameter not in heard and (number in agreement.left or parameter in self._kept):
                self._end_without(parameter, number)

    def _end_without(self, parameter: torch.nn.Parameter, number: int) -> None:
        """Ends a step of a parameter that had its gradients in earlier micro-batches, on this rank or on others."""
        if self.is_boundary or self.is_measuring:
            self._take(parameter, torch.zeros_like(self._slice(parameter, number).weights))

    @property
    def kept_numbers(self) -> list[int]:
        """The parameters of which this rank has kept a gradient, by their numbers."""
        return [self._places[parameter][0] for parameter in self._kept]

    @property
    def gradient_norm(self) -> float:
        """The norm of the gradients of the step that goes on, before they are clipped; every rank asks for it."""
        if not self._squares:
            return 0.0
        return float(self._over_ranks(torch.stack(self._squares).sum()).sqrt())

    @contextlib.contextmanager
    def measuring(self, clipping_norm: float) -> Iterator[None]:
        """Has the backward pass until the end of `with`, of the last micro-batch of a step, measure the norm of the
        step's gradients; what follows clips them at `clipping_norm`."""
        self.is_measuring = True
        try:
            yield
        finally:
            self.is_measuring = False
        self._scale = min(1.0, clipping_norm / (self.gradient_norm + _CLIPPING_EPS))
        self._squares.clear()

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Ends a step whose updates are made."""
        self.step_count += 1
        self._scale = 1.0
        self._squares.clear()

    def state_dict(self) -> dict[str, Any]:
        """What a step needs of those before it; tensors and plain values alone."""
        learning_rates = [float(group["lr"]) for group in self.param_groups]
        return {"step_count": self.step_count, "learning_rates": learning_rates, "rule": self._rule.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from `state_dict`: the learning rates as well, which a schedule writes only when it steps."""
        check_own(state_dict)
        self.step_count = state_dict["step_count"]
        for group, learning_rate in zip(self.param_groups, state_dict["learning_rates"], strict=True):
            group["lr"] = learning_rate
        self._rule.load_state_dict(state_dict["rule"], self.parameters[0].device)


def check_own(state: Mapping[str, Any]) -> None:
    """Checks that LOMO or AdaLomo has written a state; KnownFailure with what to do where another optimizer has."""
    if "rule" not in state:
        raise KnownFailure(
            FailureKind.UNSUPPORTED,
            "another optimizer than LOMO or AdaLomo has written this checkpoint, which they cannot go on from: name "
            "the --optimizer that wrote it, or start from its weights with --model",
        )


def _with_groups(groups: list[dict[str, Any]]) -> Iterator[tuple[torch.nn.Parameter, dict[str, Any]]]:
    return ((parameter, group) for group in groups for parameter in group["params"])

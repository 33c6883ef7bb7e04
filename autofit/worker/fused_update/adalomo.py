"""AdaLomo's rule (Lv et al., AdaLomo: Low-memory Optimization with Adaptive Learning Rate, 2310.10195, algorithm 1; its
constants are those of the authors' package, lomo_optim 0.1, lomo_optim/adalomo.py).

Of a matrix it keeps the means of its squared gradients by row and by column alone, as Adafactor does (Shazeer and
Stern, 1804.04235). The root mean square of an update is at most 1 before it is scaled by that of the parameter: so
gradients need no clipping.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Union

import torch

from .blocks import blocks
from .rounding import StochasticRounding
from .rule import ParameterSlice, Step, squares_of

_DECAY = 0.8  # of the means: the step t has the share t^-0.8 of them
_LEAST_SQUARE = 1e-30
_LEAST_SIZE = 1e-3  # of a parameter's root mean square: zeros must learn as well
_MOST_UPDATE = 1.0  # of the root mean square of an update


@dataclass(frozen=True)
class Factored:
    """The means of squared gradients: `rows` of shape (matrices, rows), `columns` of (matrices, columns); the same on
    all ranks."""

    rows: torch.Tensor
    columns: torch.Tensor

    @staticmethod
    def zeros(part: ParameterSlice) -> Factored:
        *matrices, rows, columns = part.shape
        count, device = torch.Size(matrices).numel(), part.weights.device
        return Factored(torch.zeros(count, rows, device=device), torch.zeros(count, columns, device=device))

    def scaled(self, gradient: torch.Tensor, matrices: slice, rows: slice) -> torch.Tensor:
        """A block of the gradient over the roots of the means, in place."""
        of_rows = self.rows[matrices]
        row_factors = (of_rows[:, rows] / of_rows.mean(-1, keepdim=True)).rsqrt_().unsqueeze(-1)
        column_factors = self.columns[matrices].rsqrt().unsqueeze(-2)
        return gradient.mul_(row_factors).mul_(column_factors)


@dataclass(frozen=True)
class Whole:
    """The means of squared gradients of a vector, element by element; of a rank's own elements."""

    squares: torch.Tensor


Moments = Union[Factored, Whole]


class AdaLomo:
    """Keeps the moments of each parameter by its number. An update costs two sums over the ranks where each of them
    keeps a slice: of the squares, and of the update's."""

    def __init__(self, rounding: StochasticRounding) -> None:
        self._rounding = rounding
        self._moments: dict[int, Moments] = {}

    def update(self, part: ParameterSlice, gradient: torch.Tensor, step: Step) -> None:
        assert step.scale == 1.0
        if len(part.shape) >= 2:
            self._update_matrices(part, gradient, step)
        else:
            self._update_vector(part, gradient, step)

    def _update_matrices(self, part: ParameterSlice, gradient: torch.Tensor, step: Step) -> None:
        moments = self._moments.get(part.number) or Factored.zeros(part)
        assert isinstance(moments, Factored)
        self._moments[part.number] = moments
        weight_squares = _take_squares(moments, part, gradient, _share(step))
        update_squares = torch.zeros(1, device=gradient.device)
        places, update = list(blocks(part.shape, part.first, gradient.numel())), None
        for one in places:
            update = moments.scaled(one.filled(gradient), one.matrices, one.rows)
            update_squares += squares_of(update)
        part.add_ranks(update_squares)
        stride = _Stride.of(part, step, weight_squares, update_squares)
        for one in reversed(places):
            if update is None:  # else it is the last one's, which is still there
                update = moments.scaled(one.filled(gradient), one.matrices, one.rows)
            self._move(part, one.part, one.own(update), stride, step)
            update = None

    def _update_vector(self, part: ParameterSlice, gradient: torch.Tensor, step: Step) -> None:
        values = gradient.float()
        moments = self._moments.get(part.number) or Whole(torch.zeros_like(values))
        assert isinstance(moments, Whole)
        self._moments[part.number] = moments
        moments.squares.lerp_(values.square() + _LEAST_SQUARE, _share(step))
        update = values * moments.squares.rsqrt()
        squares = torch.stack([squares_of(part.weights), squares_of(update)])
        part.add_ranks(squares)
        stride = _Stride.of(part, step, squares[:1], squares[1:])
        self._move(part, slice(0, update.numel()), update, stride, step)

    def _move(self, part: ParameterSlice, place: slice, update: torch.Tensor, stride: _Stride, step: Step) -> None:
        """Moves the weights of `place` by the update, which is scaled in place."""
        weights = part.weights[place]
        values = weights.float()
        if step.weight_decay:
            values.mul_(stride.decay)
        values.sub_(update.mul_(stride.length))
        self._rounding.write(weights, values, step.number, part.number, part.first + place.start)

    def state_dict(self) -> dict[str, Any]:
        return {"moments": {number: vars(moments) for number, moments in self._moments.items()}}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        self._moments = {number: _moments(kept, device) for number, kept in state["moments"].items()}


def _moments(kept: dict[str, torch.Tensor], device: torch.device) -> Moments:
    there = {name: tensor.to(device) for name, tensor in kept.items()}
    return Whole(**there) if "squares" in there else Factored(**there)


def _take_squares(moments: Factored, part: ParameterSlice, gradient: torch.Tensor, share: float) -> torch.Tensor:
    """Takes the squared gradients of all ranks into the moments; the sum of the squared weights of all ranks."""
    rows, columns = torch.zeros_like(moments.rows), torch.zeros_like(moments.columns)
    weight_squares = torch.zeros(1, device=gradient.device)
    for one in blocks(part.shape, part.first, gradient.numel()):
        squares = one.filled(gradient).square_()
        rows[one.matrices, one.rows] += squares.sum(-1)
        columns[one.matrices] += squares.sum(-2)
        weight_squares += squares_of(part.weights[one.part])
    sums = torch.cat([rows.view(-1), columns.view(-1), weight_squares])
    part.add_ranks(sums)
    *_, row_count, column_count = part.shape
    of_rows, of_columns, weight_squares = torch.split(sums, [rows.numel(), columns.numel(), 1])
    moments.rows.lerp_(of_rows.view_as(rows) / column_count + _LEAST_SQUARE, share)
    moments.columns.lerp_(of_columns.view_as(columns) / row_count + _LEAST_SQUARE, share)
    return weight_squares


@dataclass(frozen=True)
class _Stride:
    """How far a parameter moves; on its device, where nobody waits for the numbers."""

    decay: torch.Tensor  # what its weights are multiplied with first
    length: torch.Tensor  # of the update

    @staticmethod
    def of(part: ParameterSlice, step: Step, weight_squares: torch.Tensor, update_squares: torch.Tensor) -> _Stride:
        """By the sums of squares of the whole parameter."""
        count = part.shape.numel()
        size = (weight_squares / count).sqrt_().clamp_(min=_LEAST_SIZE)
        excess = (update_squares / count).sqrt_().div_(_MOST_UPDATE).clamp_(min=1.0)
        rate = step.learning_rate * size
        return _Stride(1.0 - rate * step.weight_decay, rate / excess)


def _share(step: Step) -> float:
    """The share of a step's squares in their means; the first step has all."""
    return float(step.number**-_DECAY)

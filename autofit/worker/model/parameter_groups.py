"""The parameters of a model as they are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from torch import nn

from autofit.domain.model import ParameterGroup


def parameter_groups(model: nn.Module, linear_rows: Mapping[nn.Parameter, int]) -> tuple[ParameterGroup, ...]:
    """The parameters in groups of equal ones; tied ones count once. `linear_rows` is `linear_rows`' of the model before
    it got adapters."""
    viewed = set(_viewed(model))
    counts = Counter(
        (one.numel(), one.requires_grad, one.element_size(), linear_rows.get(one, 0), one in viewed)
        for one in model.parameters()
    )
    return tuple(
        ParameterGroup(elements, number, is_trained, n_bytes, rows, is_viewed)
        for (elements, is_trained, n_bytes, rows, is_viewed), number in sorted(counts.items())
    )


def _viewed(model: nn.Module) -> Iterator[nn.Parameter]:
    """The weights of linear layers with a product of their own (Falcon's `input @ weight.T`): autograd keeps the
    transposed view, where DeepSpeed's linear function keeps the parameter, whose data ZeRO-3 can take away."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and type(module).forward is not nn.Linear.forward:
            yield module.get_parameter("weight")

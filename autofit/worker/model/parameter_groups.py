"""The parameters of a model as they are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from torch import nn

from autofit.domain.model import ParameterGroup


def parameter_groups(model: nn.Module, linear_rows: Mapping[nn.Parameter, int]) -> tuple[ParameterGroup, ...]:
    """The parameters in groups of equal ones; tied ones count once. `linear_rows` is `linear_rows`' of the model before
    it got adapters."""
    counts = Counter(
        (one.numel(), one.requires_grad, one.element_size(), linear_rows.get(one, 0)) for one in model.parameters()
    )
    return tuple(
        ParameterGroup(elements, number, is_trained, n_bytes, rows)
        for (elements, is_trained, n_bytes, rows), number in sorted(counts.items())
    )

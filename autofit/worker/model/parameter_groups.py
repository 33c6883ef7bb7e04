"""The parameters of a model as they are counted."""

from __future__ import annotations

from collections import Counter

from torch import nn

from autofit.domain.model import ParameterGroup


def parameter_groups(model: nn.Module) -> tuple[ParameterGroup, ...]:
    """The parameters in groups of equal ones; tied ones count once."""
    counts = Counter((one.numel(), one.requires_grad, one.element_size()) for one in model.parameters())
    return tuple(
        ParameterGroup(elements, number, is_trained, n_bytes)
        for (elements, is_trained, n_bytes), number in sorted(counts.items())
    )

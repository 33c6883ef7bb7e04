"""Which packages with kernels for linear attention and state spaces a model's code calls, where they are installed."""

from __future__ import annotations

import sys

from torch import nn

KERNEL_FUNCTIONS: dict[str, tuple[str, ...]] = {
    "causal-conv1d": ("causal_conv1d_fn",),
    "flash-linear-attention": ("torch_chunk_gated_delta_rule",),
    "mamba-ssm": (
        "mamba_selective_scan", "mamba_inner_fn", "mamba2_chunk_scan", "mamba2_split_conv1d_scan_combined",
    ),
}  # fmt: skip
"""By package, as pip names it: the functions of transformers' models (5.23) that call a kernel of it."""


def kernel_packages(model: nn.Module) -> tuple[str, ...]:
    """The packages that the code of the model's classes would call."""
    code = {type(module).__module__ for module in model.modules()}
    names = {name for module in code for name in vars(sys.modules[module])}
    return tuple(package for package, functions in KERNEL_FUNCTIONS.items() if names & set(functions))

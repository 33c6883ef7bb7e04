"""Which stand-in takes the place of which function of transformers' models with linear attention or state spaces."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any

from torch import nn

from autofit.worker.model.kernel_packages import KERNEL_FUNCTIONS
from autofit.worker.trace.plain_scans import delta_rule_by_chunk, kimi_delta_by_chunk, scan_by_token
from autofit.worker.trace.replacement import replace_name
from autofit.worker.trace.scan_kernels import (
    causal_conv,
    chunk_gated_delta_rule,
    chunk_scan,
    mamba_inner,
    selective_scan,
    split_conv_scan,
)

_STAND_INS: dict[str, Callable[..., Any]] = {
    "causal_conv1d_fn": causal_conv,
    "torch_chunk_gated_delta_rule": chunk_gated_delta_rule,
    "mamba_selective_scan": selective_scan,
    "mamba_inner_fn": mamba_inner,
    "mamba2_chunk_scan": chunk_scan,
    "mamba2_split_conv1d_scan_combined": split_conv_scan,
}
"""What stands in for each of KERNEL_FUNCTIONS where its package is there."""

WITHOUT_PACKAGE: dict[str, dict[str, Callable[..., Any]]] = {
    "mamba-ssm": {"mamba_selective_scan": scan_by_token},
    "flash-linear-attention": {
        "torch_chunk_gated_delta_rule": delta_rule_by_chunk,
        "chunk_kimi_delta_attention": kimi_delta_by_chunk,
    },
}
"""The functions that go from token to token, or from chunk to chunk, without their package."""


@contextlib.contextmanager
def scan_kernels_of(model: nn.Module, packages: Collection[str]) -> Iterator[None]:
    """Puts stand-ins in place, until the end of `with`, in the code of the model's classes: those of the installed
    `packages`, and those of what would take too long without one."""
    stand_ins: dict[str, Callable[..., Any]] = {}
    for package, names in KERNEL_FUNCTIONS.items():
        stand_ins |= WITHOUT_PACKAGE.get(package, {})  # also of a function whose kernel has no stand-in
        stand_ins |= {name: _STAND_INS[name] for name in names} if package in packages else {}
    modules = {sys.modules[type(module).__module__] for module in model.modules()}
    with contextlib.ExitStack() as stack:
        for module in modules:
            for name in stand_ins.keys() & vars(module).keys():
                replace_name(stack, module, name, stand_ins[name])
        yield

"""Which stand-in takes the place of which function of transformers' models with linear attention or state spaces."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Loop:
    """What stands in for a function that goes through its rows step by step, where they have more than `few_tokens`:
    the dimension of tokens in its first argument is `tokens_at`."""

    stand_in: Callable[..., Any]
    tokens_at: int
    few_tokens: int

    def beside(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """The one of the two that the rows are long enough for: few steps run as they are."""

        def run(first: Any, *args: Any, **kwargs: Any) -> Any:
            chosen = original if first.shape[self.tokens_at] <= self.few_tokens else self.stand_in
            return chosen(first, *args, **kwargs)

        return run


WITHOUT_PACKAGE: dict[str, dict[str, Loop]] = {
    "mamba-ssm": {"mamba_selective_scan": Loop(scan_by_token, -1, 64)},
    "flash-linear-attention": {
        "torch_chunk_gated_delta_rule": Loop(delta_rule_by_chunk, 1, 128),
        "chunk_kimi_delta_attention": Loop(kimi_delta_by_chunk, 1, 128),
    },
}
"""The functions that go from token to token, or from chunk to chunk, without their package."""


@contextlib.contextmanager
def scan_kernels_of(model: nn.Module, packages: Collection[str]) -> Iterator[None]:
    """Puts stand-ins in place, until the end of `with`, in the code of the model's classes: those of the installed
    `packages`, and those of what would take too long without one."""
    loops: dict[str, Loop] = {}
    kernels: dict[str, Callable[..., Any]] = {}
    for package, names in KERNEL_FUNCTIONS.items():
        loops |= WITHOUT_PACKAGE.get(package, {})
        kernels |= {name: _STAND_INS[name] for name in names} if package in packages else {}
    modules = {sys.modules[type(module).__module__] for module in model.modules()}
    with contextlib.ExitStack() as stack:
        for module in modules:
            for name in (loops.keys() | kernels.keys()) & vars(module).keys():
                stand_in = kernels.get(name) or loops[name].beside(vars(module)[name])
                replace_name(stack, module, name, stand_in)
        yield

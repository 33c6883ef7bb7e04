"""Known accelerators: what their vendors' datasheets say. Unknown hardware stays unknown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from autofit.domain.hardware import Link, Rates

# Error correction takes up to 1/16 of GDDR memory and the driver some more; a board with half or double the memory
# under the same name is another product.
_MEMORY_TOLERANCE = 0.12

_FIGURES = (
    "memory_bytes",
    "visible_memory_bytes",
    "bf16_flop_per_s",
    "fp16_flop_per_s",
    "fp32_flop_per_s",
    "memory_bandwidth_bytes_per_s",
    "nvlink_bandwidth_bytes_per_s",
    "nvlink_device_count",
    "pcie_bandwidth_bytes_per_s",
    "power_w",
)


@dataclass(frozen=True)
class Sku:
    """Datasheet figures of one product: dense peaks without sparsity, fp16 and bf16 on tensor cores that add in fp32.

    None where the product has none of it. Link bandwidths are both directions together, as datasheets print them;
    `nvlink_device_count` is how many devices of a node NVLink joins: two by a bridge, eight on a server's board.
    """

    key: str
    names: tuple[str, ...]  # as NVML spells them
    memory_bytes: int
    visible_memory_bytes: int  # what error correction leaves of it, as NVML's total
    compute_capability: tuple[int, int]
    bf16_flop_per_s: float | None
    fp16_flop_per_s: float | None
    fp32_flop_per_s: float | None
    memory_bandwidth_bytes_per_s: float
    nvlink_bandwidth_bytes_per_s: float | None
    nvlink_device_count: int | None
    pcie_bandwidth_bytes_per_s: float
    power_w: float  # the board's most
    sources: Mapping[str, str]  # field → title of the datasheet

    @property
    def rates(self) -> Rates:
        """The figures with links in one direction, half of what datasheets print."""
        nvlink = self.nvlink_bandwidth_bytes_per_s
        return Rates(
            bf16_flop_per_s=self.bf16_flop_per_s,
            fp16_flop_per_s=self.fp16_flop_per_s,
            fp32_flop_per_s=self.fp32_flop_per_s,
            memory_bytes_per_s=self.memory_bandwidth_bytes_per_s,
            host_link_bytes_per_s=self.pcie_bandwidth_bytes_per_s / 2,
            device_link_bytes_per_s=None if nvlink is None else nvlink / 2,
            power_w=self.power_w,
        )

    def link(self, device_count: int) -> Link:
        """The slowest link between so many of them in one node, where nobody has looked."""
        return Link.NVLINK if device_count <= (self.nvlink_device_count or 0) else Link.PCIE


def find(name: str, memory_total_bytes: int) -> str | None:
    """The key of the product that NVML calls `name` and that has about this memory; None when the table has none."""
    for sku in known():
        difference_bytes = abs(memory_total_bytes - sku.memory_bytes)
        if name in sku.names and difference_bytes <= _MEMORY_TOLERANCE * sku.memory_bytes:
            return sku.key
    return None


def get(key: str) -> Sku:
    """The product with this key; KeyError when there is none."""
    return {sku.key: sku for sku in known()}[key]


@lru_cache(maxsize=1)
def known() -> tuple[Sku, ...]:
    """Every product of the table, in its order."""
    table = json.loads(Path(__file__).with_name("sku.json").read_text(encoding="utf-8"))
    return tuple(_read(key, entry, table["sources"]) for key, entry in table["skus"].items())


def _read(key: str, entry: dict[str, Any], titles: dict[str, str]) -> Sku:
    major, minor = entry["compute_capability"]
    return Sku(
        key=key,
        names=tuple(entry["names"]),
        compute_capability=(major, minor),
        **{figure: entry[figure]["value"] for figure in _FIGURES},
        sources={figure: titles[entry[figure]["source"]] for figure in _FIGURES},
    )

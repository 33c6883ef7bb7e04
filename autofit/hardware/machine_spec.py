"""A machine described in a few words, to plan for it without it: `8xA100-80GB` or `gpus=4,memory=48GiB,tflops=150`."""

from __future__ import annotations

import difflib
import re
from dataclasses import replace

from autofit.domain.errors import UsageError
from autofit.domain.hardware import Device, DeviceKind, Hardware, Host, Link, Node
from autofit.domain.units import format_bytes

from . import sku
from .host import host_adam_rate
from .spec_fields import FORMS, DeviceFields, NodeFields, read_device, read_node, split_fields

DRIVER_BYTES = 160_000_000
DRIVER_SHARE = 0.008
"""What the driver keeps of a device: 0.16 GB and 0.8 %, within 0.2 GB of what torch's out-of-memory messages print as
capacity (GiB, of NVML's total): A100 79.15 of 80, 39.4 of 40, V100 31.7 of 32, RTX 3090 23.7 of 24, T4 14.7 of 15."""

HOST_BYTES_PER_DEVICE = 128 * 10**9
CORES_PER_DEVICE = 12
"""The leaner of what is rented out with 8 × A100: 96 vCPUs and 1.1 TB (EC2 p4d.24xlarge); a DGX A100 has 128 cores and
1 or 2 TB."""

NETWORK_BYTES_PER_S = 25e9
"""200 Gb/s a node, one direction: half of what 8 × A100 are rented out with (EC2 p4d.24xlarge: 400 Gb/s)."""

DISK_BYTES = 10**13
"""Nobody plans by the disk: enough of it."""

MOST_DEVICES = 16_384

ALIASES = {
    "v100": "V100-SXM2-32GB", "v100-16gb": "V100-SXM2-16GB", "v100-32gb": "V100-SXM2-32GB", "a100": "A100-SXM4-80GB",
    "a100-40gb": "A100-SXM4-40GB", "a100-80gb": "A100-SXM4-80GB", "a100-sxm": "A100-SXM4-80GB",
    "a100-pcie": "A100-PCIe-80GB", "h100": "H100-SXM5-80GB", "h100-80gb": "H100-SXM5-80GB",
    "h100-sxm": "H100-SXM5-80GB", "h100-pcie": "H100-PCIe-80GB", "h100-nvl": "H100-NVL-94GB",
    "h200": "H200-SXM-141GB", "h200-141gb": "H200-SXM-141GB", "a6000": "RTX-A6000", "6000-ada": "RTX-6000-Ada",
    "3090": "RTX-3090", "4090": "RTX-4090", "5090": "RTX-5090",
}  # fmt: skip
"""Short names: the board that most people mean by them."""


def parse_machine(text: str) -> Hardware:
    """The idle machine that `--on TEXT` describes, all its nodes alike.

    `[NODESx][COUNTx]NAME[,host=…,cores=…,network=…]` with a key of sku.json or a short name in any case, or
    `gpus=8,memory=48GiB,tflops=150[,…]` for a device that the table does not have, with the keys of `spec_fields`. What
    the text leaves open is assumed, with a note. UsageError names what is wrong and the nearest that would work.
    """
    name, fields = split_fields(text)
    node = read_node(fields, text)
    if name is None:
        described = read_device(fields, text)
        return _machine(text, _custom_device(described), node, described.assumed)
    node_count, device_count, name = _split_counts(name)
    product = sku.get(_key(name, text))
    node = replace(node, node_count=node_count, device_count=device_count)
    return _machine(text, _known_device(product), replace(node, link=product.link(device_count)))


def is_called(text: str, machine: Hardware) -> bool:
    """Whether `text` is what `--on` calls such a machine, or what its device is called, whatever their number."""
    device = machine.devices[0]
    if _plain(text) in (_plain(device.name), _plain(device.sku or device.name)):
        return True
    try:
        described = parse_machine(text)
    except UsageError:
        return False
    has_count = re.match(r"\d+\s*[x×*]|gpus", text) is not None
    return described.summary == machine.summary if has_count else described.devices[0].name == device.name


def _split_counts(text: str) -> tuple[int, int, str]:
    match = re.fullmatch(r"(?:(\d{1,9})\s*[x×*]\s*)?(?:(\d{1,9})\s*[x×*]\s*)?(.*)", text, re.DOTALL)
    assert match is not None  # everything in it may be absent
    first, second, name = match.groups()
    return (1, int(first or 1), name) if second is None else (int(first), int(second), name)


def _key(name: str, text: str) -> str:
    table = {_plain(entry.key): entry.key for entry in sku.known()}
    table |= {_plain(vendor): entry.key for entry in sku.known() for vendor in entry.names}
    table |= {_plain(alias): key for alias, key in ALIASES.items()}
    plain = _plain(name)
    if plain in table:
        return table[plain]
    near = dict.fromkeys(table[close] for close in difflib.get_close_matches(plain, table, n=6, cutoff=0.5))
    hint = f"the nearest known: {', '.join([*near][:3])}" if near else f"known: {', '.join(s.key for s in sku.known())}"
    raise UsageError(f"--on {text}: no device called '{name}' is in autofit's table; {hint}; or {FORMS[1]}.")


def _plain(name: str) -> str:
    """A name as its letters and digits alone, without the vendor's and the family's name."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return re.sub(r"^(nvidia)?(geforce|tesla)?", "", plain) or plain


def _known_device(product: sku.Sku) -> Device:
    return Device(
        kind=DeviceKind.CUDA,
        index=0,
        name=product.names[0],
        sku=product.key,
        uuid=None,
        memory_total_bytes=product.visible_memory_bytes,
        memory_free_bytes=_free_bytes(product.visible_memory_bytes),
        compute_capability=product.compute_capability,
        rates=product.rates,
    )


def _custom_device(fields: DeviceFields) -> Device:
    return Device(
        kind=DeviceKind.CUDA,
        index=0,
        name=fields.name or f"GPU with {format_bytes(fields.memory_bytes)}",
        sku=None,
        uuid=None,
        memory_total_bytes=fields.memory_bytes,
        memory_free_bytes=_free_bytes(fields.memory_bytes),
        compute_capability=fields.compute_capability,
        rates=fields.rates,
    )


def _free_bytes(total_bytes: int) -> int:
    return max(0, round((1 - DRIVER_SHARE) * total_bytes) - DRIVER_BYTES)


def _machine(text: str, device: Device, fields: NodeFields, assumed: tuple[str, ...] = ()) -> Hardware:
    count = fields.device_count
    if not 1 <= count * fields.node_count <= MOST_DEVICES:
        raise UsageError(f"--on {text}: {count * fields.node_count} devices; ask for 1 to {MOST_DEVICES} in all.")
    host_bytes = fields.host_bytes or count * HOST_BYTES_PER_DEVICE
    cores = fields.core_count or count * CORES_PER_DEVICE
    network = fields.network_bytes_per_s or (NETWORK_BYTES_PER_S if fields.node_count > 1 else None)
    node = Node(
        host=Host(
            "described",
            cores,
            host_bytes,
            host_bytes,
            DISK_BYTES,
            host_adam_rate(cores),
            is_memory_assumed=fields.host_bytes is None,
        ),
        devices=tuple(replace(device, index=index) for index in range(count)),
        link=Link.UNKNOWN if count == 1 else fields.link,
        network_bytes_per_s=network,
    )
    return Hardware((node,) * fields.node_count, notes=_notes(node, fields, assumed))


def _notes(node: Node, fields: NodeFields, of_device: tuple[str, ...]) -> tuple[str, ...]:
    """What was assumed, with the words that say otherwise."""
    of_node = []
    if fields.host_bytes is None:
        of_node.append(f"{format_bytes(node.host.memory_total_bytes)} of host memory (host=…)")
    if fields.core_count is None:
        of_node.append(f"{node.host.core_count} cores (cores=…)")
    if fields.network_bytes_per_s is None and fields.node_count > 1:
        of_node.append(f"{format_bytes(NETWORK_BYTES_PER_S)}/s between nodes (network=…)")
    whose = (("device", of_device), ("node", tuple(of_node)))
    return tuple(f"Assumed for each {noun}: {', '.join(parts)}." for noun, parts in whose if parts)

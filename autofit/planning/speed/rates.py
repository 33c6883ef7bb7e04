"""How fast the devices of a setting are, by their vendor, or by nominal figures where nobody has said."""

from __future__ import annotations

from autofit.domain.hardware import DeviceKind, Hardware, Host, Rates
from autofit.domain.knobs.dtype import Dtype
from autofit.planning.setting import Setting

CORE_FLOP_PER_S = 100e9
CORE_BYTES_PER_S = 10e9
"""One core of a current server: 16 fused fp32 multiplications and additions a cycle at 3 GHz; 8 channels of DDR4-3200
for 24 cores. 16-bit types count like fp32: whether a core multiplies them faster or slower is its own affair."""

GLOO_BYTES_PER_S = 0.8e9
"""The bandwidth between two CPU ranks of one machine, in proportion to the figures above: many small collectives,
copied several times. ZeRO-3 of a model of 14 M parameters halved the speed of ZeRO-1 on two cores."""

UNKNOWN_GPU = Rates(100e12, 100e12, 10e12, 700e9, 16e9)
"""A GPU that no table has, in the proportions of those that it has: 140 FLOP a byte. Only ratios mean something."""

NOMINAL_ADAM_PARAMETERS_PER_S = 1e9


def rates_of(hardware: Hardware) -> Rates:
    """The rates of the slowest device in everything: the others wait for it."""
    every = [device.rates or _nominal(hardware) for device in hardware.devices]
    first = every[0]
    return first if all(rates is first or rates == first for rates in every) else _slowest(every)


def is_rated(hardware: Hardware) -> bool:
    """Whether seconds mean something: the rates of every device and of the network between nodes are known."""
    has_network = all(node.network_bytes_per_s is not None for node in hardware.nodes) or len(hardware.nodes) == 1
    return has_network and all(device.rates is not None for device in hardware.devices)


def peak_flop_per_s(rates: Rates, dtype: Dtype) -> float:
    """The peak of matrix products in `dtype`; fp32's where the device has no unit for it (bf16 before Ampere)."""
    own = {Dtype.BF16: rates.bf16_flop_per_s, Dtype.FP16: rates.fp16_flop_per_s, Dtype.FP32: None}[dtype]
    return own or rates.fp32_flop_per_s or UNKNOWN_GPU.fp32_flop_per_s or CORE_FLOP_PER_S


def fitted_speed(setting: Setting) -> float:
    """How many times as fast as believed before any trial its device and host were; 1 where nothing was tried."""
    return setting.constants.matmul_efficiency / setting.prior_constants.matmul_efficiency


def adam_parameters_per_s(host: Host) -> float:
    return host.adam_parameters_per_s or NOMINAL_ADAM_PARAMETERS_PER_S


def _nominal(hardware: Hardware) -> Rates:
    if hardware.kind is DeviceKind.CUDA:
        return UNKNOWN_GPU
    cores = min(node.host.core_count / len(node.devices) for node in hardware.nodes)
    flop_per_s, bytes_per_s = cores * CORE_FLOP_PER_S, cores * CORE_BYTES_PER_S
    return Rates(flop_per_s, None, flop_per_s, bytes_per_s, GLOO_BYTES_PER_S)


def _slowest(every: list[Rates]) -> Rates:
    return Rates(
        bf16_flop_per_s=_least([rates.bf16_flop_per_s for rates in every]),
        fp16_flop_per_s=_least([rates.fp16_flop_per_s for rates in every]),
        fp32_flop_per_s=_least([rates.fp32_flop_per_s for rates in every]),
        memory_bytes_per_s=min(rates.memory_bytes_per_s for rates in every),
        host_link_bytes_per_s=min(rates.host_link_bytes_per_s for rates in every),
        device_link_bytes_per_s=_least([rates.device_link_bytes_per_s for rates in every]),
    )


def _least(values: list[float | None]) -> float | None:
    """The least of the figures; None when a device has none of it."""
    there = [value for value in values if value is not None]
    return min(there) if len(there) == len(values) else None

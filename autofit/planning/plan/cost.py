"""What a number of tokens takes: hours, energy and price."""

from __future__ import annotations

from dataclasses import dataclass

from autofit.domain.estimate import SpeedEstimate
from autofit.domain.hardware import Hardware


@dataclass(frozen=True)
class Cost:
    """A cost of which `energy_kwh` is an upper bound, the devices at their full power and nothing else; None where that
    is unknown."""

    tokens: float
    hours: float
    energy_kwh: float | None
    price: float | None  # in the currency of the price of a device-hour, None when none was given


def cost(
    tokens: float | None, speed: SpeedEstimate, hardware: Hardware, price_per_device_hour: float | None
) -> Cost | None:
    """What `tokens` take; None where nobody asked, or where the speed is known in relation to other strategies only."""
    if tokens is None or not speed.is_absolute:
        return None
    hours = tokens / speed.tokens_per_s / 3600
    powers_w = [device.rates.power_w if device.rates else None for device in hardware.devices]
    known_w = [power_w for power_w in powers_w if power_w is not None]
    energy_kwh = hours * sum(known_w) / 1000 if len(known_w) == len(powers_w) else None
    price = None if price_per_device_hour is None else hours * hardware.rank_count * price_per_device_hour
    return Cost(tokens, hours, energy_kwh, price)

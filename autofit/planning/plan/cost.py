"""What a number of tokens takes: hours, energy and price."""

from __future__ import annotations

from dataclasses import dataclass

from autofit.domain.estimate import SpeedEstimate
from autofit.domain.hardware import Hardware


@dataclass(frozen=True)
class Price:
    """What an hour of a device costs, in any currency; of the machines that `name` means, or of all."""

    amount: float
    name: str | None = None


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
    power_w = full_power_w(hardware)
    energy_kwh = None if power_w is None else hours * power_w / 1000
    price = None if price_per_device_hour is None else hours * hardware.rank_count * price_per_device_hour
    return Cost(tokens, hours, energy_kwh, price)


def token_j(speed: SpeedEstimate, hardware: Hardware) -> float | None:
    """The joules that a token is expected to take at most: its time at the full power of all devices. None where one of
    the two is unknown."""
    power_w = full_power_w(hardware)
    return None if power_w is None or not speed.is_absolute else power_w / speed.tokens_per_s


def full_power_w(hardware: Hardware) -> float | None:
    """The most that all devices take together, by their vendor (W); None where it is not known of one of them."""
    powers_w = [device.rates.power_w if device.rates else None for device in hardware.devices]
    known_w = [power_w for power_w in powers_w if power_w is not None]
    return sum(known_w) if len(known_w) == len(powers_w) else None

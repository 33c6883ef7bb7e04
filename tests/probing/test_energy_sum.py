"""What all ranks took of energy for each of their tokens."""

from __future__ import annotations

import pytest

from autofit.domain.energy import Energy
from autofit.probing.energy_sum import energy
from autofit.probing.protocol import Counted, RankEnergy


def rank(device: Counted | None, host: Counted | None = None, tokens: float = 100.0) -> RankEnergy:
    return RankEnergy(tokens, device, host)


def test_devices_are_summed_and_a_host_is_counted_once() -> None:
    ranks = [rank(Counted(f"GPU-{number}", 300.0), Counted("host", 150.0 + number)) for number in range(2)]
    assert energy(ranks) == Energy(3.0, 0.755)


def test_ranks_of_one_device_share_what_it_took() -> None:
    slices = [rank(Counted("GPU-0", joules, is_whole_device=True)) for joules in (390.0, 400.0)]
    assert energy(slices) == Energy(2.0, None, is_whole_device=True)


@pytest.mark.parametrize(
    "ranks",
    [
        [],
        [None, None],
        [rank(Counted("GPU-0", 1.0)), None],
        [rank(None), rank(Counted("GPU-0", 1.0))],
        [rank(Counted("GPU-0", 1.0), tokens=0.0)],
    ],
    ids=["no rank", "no window", "one without", "one without a counter", "no token"],
)
def test_nothing_is_said_of_what_not_all_have_counted(ranks: list[RankEnergy | None]) -> None:
    assert energy(ranks) is None


def test_what_is_counted_is_told_though_the_host_is_not() -> None:
    assert energy([rank(Counted("GPU-0", 50.0))]) == Energy(0.5, None)

"""The energy of all ranks, from what each of them has counted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from autofit.domain.energy import Energy
from autofit.probing.protocol import Counted, RankEnergy


def energy(ranks: Sequence[RankEnergy | None]) -> Energy | None:
    """The joules for each token of all ranks; None where nothing was counted on every rank."""
    known = [rank for rank in ranks if rank is not None]
    tokens = sum(rank.tokens for rank in known)
    if not known or len(known) < len(ranks) or tokens <= 0:
        return None
    devices, hosts = [rank.device for rank in known], [rank.host for rank in known]
    device_j, host_j = _sum_j(devices), _sum_j(hosts)
    if device_j is None and host_j is None:
        return None
    return Energy(
        device_j_per_token=None if device_j is None else device_j / tokens,
        host_j_per_token=None if host_j is None else host_j / tokens,
        is_whole_device=any(device is not None and device.is_whole_device for device in devices),
    )


def _sum_j(counted: Iterable[Counted | None]) -> float | None:
    """The joules of all counters, each once: the most that one of its readers saw. None where one rank has none."""
    by_counter: dict[str, float] = {}
    for one in counted:
        if one is None:
            return None
        by_counter[one.counter] = max(one.joules, by_counter.get(one.counter, 0.0))
    return sum(by_counter.values())

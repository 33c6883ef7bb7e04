"""How good a strategy is for what is looked for: its merit, greater for what takes less.

Tokens/s for speed, 1 / peak bytes of a device for memory, tokens/J for energy, and for what is balanced their product:
beside a baseline, which is the same for all, that is the product of SpeedUp, MemoryUp and EnergyUp (Chen et al., IPDPSW
2024). The search believes, bounds and compares merits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from autofit.domain.goal import Certainty
from autofit.domain.hardware import DeviceKind
from autofit.domain.objective import Objective
from autofit.domain.outcome import Measured
from autofit.domain.strategy import KNOBS, Strategy
from autofit.planning.plan.baseline import counted_token_j

from .dominance import needs_no_less
from .noise import speed_noise
from .posterior import Normal
from .rung_history import RungHistory
from .search_state import SearchState

BOUND_STD = 2.0
"""Standard deviations above what is expected at which a bound lies: 98 of 100 stay below theirs."""

TIE = 0.01
"""The share by which peaks may differ that count as equal: of those the fastest is taken."""


class Part(Enum):
    """What a merit is the product of."""

    SPEED = auto()  # tokens/s
    MEMORY = auto()  # 1 / the peak on a device, in bytes
    ENERGY = auto()  # tokens/J


_PARTS = {
    Objective.SPEED: (Part.SPEED,),
    Objective.MEMORY: (Part.MEMORY,),
    Objective.ENERGY: (Part.ENERGY,),
    Objective.BALANCED: (Part.SPEED, Part.MEMORY),
}


@dataclass(frozen=True)
class Best:
    """The best measured strategy of some rungs."""

    history: RungHistory
    strategy: Strategy
    measured: Measured
    merit: float


def parts(search: SearchState) -> tuple[Part, ...]:
    """The parts of the search's merit: energy is one of what is balanced where every probe counted it."""
    objective = search.objective
    if objective is Objective.BALANCED and search.counts_energy:
        return (*_PARTS[objective], Part.ENERGY)
    return _PARTS[objective]


def leader(among: Iterable[RungHistory], search: SearchState) -> Best | None:
    """The measured strategy with the greatest merit; the plainer one, earlier in the ladder, when two are equal, and of
    peaks that hardly differ the fastest."""
    points = [
        Best(history, strategy, measured, merit(strategy, measured, search))
        for history in among
        for strategy, measured in history.measurements.items()
    ]
    best = max(points, key=lambda point: point.merit, default=None)
    if best is None or search.objective is not Objective.MEMORY:
        return best
    least_merit = best.merit / (1 + TIE)
    return max((one for one in points if one.merit >= least_merit), key=lambda point: point.measured.tokens_per_s)


def merit(strategy: Strategy, measured: Measured, search: SearchState) -> float:
    """The merit by what was measured of it; of energy that was not counted, by the power of the others."""
    return math.prod(_measured(part, strategy, measured, search) for part in parts(search))


def measured_merit(measured: Measured, objective: Objective, kind: DeviceKind) -> float:
    """The merit of one trial without the others: 0 where its energy is looked for and was not counted, and of what is
    balanced without energy."""
    return math.prod(_of(part, measured, kind) or 0.0 for part in _PARTS[objective])


def log_merit(strategy: Strategy, search: SearchState) -> Normal:
    """The distribution of the logarithm of its merit, the errors of its parts taken to be independent."""
    beliefs = [_believed(part, strategy, search) for part in parts(search)]
    first, *others = beliefs
    return Normal(sum(one.mean for one in beliefs), math.hypot(*(one.std for one in beliefs))) if others else first


def cap(strategy: Strategy, search: SearchState) -> float:
    """The merit that it cannot surpass, by the measured strategies that certainly take no more: in work, no offload and
    nothing computed twice, or in memory."""
    return math.prod(_cap(part, strategy, search) for part in parts(search))


def _measured(part: Part, strategy: Strategy, measured: Measured, search: SearchState) -> float:
    known = _of(part, measured, search.setting.kind)
    return measured.tokens_per_s / math.exp(search.log_power(strategy).mean) if known is None else known


def _of(part: Part, measured: Measured, kind: DeviceKind) -> float | None:
    """None of energy that was not counted."""
    if part is Part.SPEED:
        return measured.tokens_per_s
    if part is Part.MEMORY:
        return 1 / measured.peak_device_bytes
    token_j = counted_token_j(measured, kind)
    return 1 / token_j if token_j else None


def _believed(part: Part, strategy: Strategy, search: SearchState) -> Normal:
    if part is Part.MEMORY:
        peak = search.memory(strategy)
        mean_bytes = max(1.0, peak.mean)
        return Normal(-math.log(mean_bytes), peak.std / mean_bytes)
    speed = search.log_speed(strategy)
    if part is Part.SPEED:
        return speed
    power = search.log_power(strategy)
    return Normal(speed.mean - power.mean, math.hypot(speed.std, power.std))


def _cap(part: Part, strategy: Strategy, search: SearchState) -> float:
    takes_no_more = _TAKES_NO_MORE[part]
    measured = ((known, outcome) for history in search.histories for known, outcome in history.speeds.items())
    return min(
        (
            _measured(part, *one, search) * _hidden(part, one[1], search)
            for one in measured
            if takes_no_more(one[0], strategy, search)
        ),
        default=math.inf,
    )


def _hidden(part: Part, measured: Measured, search: SearchState) -> float:
    """By how many times noise may have made a measured speed look lower. A search for certainty, whose proof is about
    what was measured, takes it as it is."""
    if part is not Part.SPEED or isinstance(search.goal, Certainty):
        return 1.0
    return math.exp(BOUND_STD * speed_noise(measured))


def _needs_no_more(known: Strategy, strategy: Strategy, search: SearchState) -> bool:
    estimate = search.ladder.estimate
    return needs_no_less(strategy, known, estimate(strategy).memory, estimate(known).memory)


def _does_no_more(known: Strategy, strategy: Strategy, _: SearchState) -> bool:
    return known.micro_batch == strategy.micro_batch and all(
        knob.does_no_more(getattr(known.rung, knob.name), getattr(strategy.rung, knob.name)) for knob in KNOBS
    )


def _does_no_more_there(known: Strategy, strategy: Strategy, search: SearchState) -> bool:
    """The same with as much of it on the devices: what offload moves to a host that nothing counts takes less."""
    return known.rung.offload is strategy.rung.offload and _does_no_more(known, strategy, search)


_TAKES_NO_MORE = {Part.SPEED: _does_no_more, Part.MEMORY: _needs_no_more, Part.ENERGY: _does_no_more_there}

"""What SpeedUp, MemoryUp and EnergyUp are ratios of, for trials and for predictions alike.

`measured_cost` and `predicted_cost` say what a strategy takes, `Rated` holds that with its strategy, and
`baseline_of(rated, named)` finds the baseline among all that are rated: what was measured of a strategy where it was
measured, else what is predicted of it. `Rated.over(baseline)` are its ratios then.

The baseline is all parameters by plain data parallel (ZeRO stage 0) with nothing turned on, as Chen et al. (IPDPSW
2024) have it; where that does not fit the plainest rung that fits, and where none fits the plainest of all, as
predicted. Of its micro-batches it is the fastest one that fits: the training of somebody who turns nothing on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from autofit.domain.efficiency import Cost, Rated
from autofit.domain.errors import UsageError
from autofit.domain.estimate import Estimate
from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Measured
from autofit.domain.strategy import Rung, Strategy
from autofit.planning.setting import Setting
from autofit.planning.space.axes import plainness, rungs, settle


def measured_cost(measured: Measured, kind: DeviceKind) -> Cost:
    """What was measured of a strategy on devices of `kind`."""
    return Cost(1 / measured.tokens_per_s, measured.peak_device_bytes, counted_token_j(measured, kind))


def counted_token_j(measured: Measured, kind: DeviceKind) -> float | None:
    """Joules for each token of the devices and, where they are counted too, of the hosts, which are all there is of CPU
    ranks; None where the devices were not counted: a part of the energy compares with nothing."""
    energy = measured.energy
    if energy is None:
        return None
    if kind is DeviceKind.CPU:
        return energy.host_j_per_token
    device_j = energy.device_j_per_token
    return None if device_j is None else device_j + (energy.host_j_per_token or 0.0)


def predicted_cost(estimate: Estimate) -> Cost:
    """What is predicted of a strategy before anything is tried: no energy, which only a counter tells. Where the rates
    of the devices are not known its seconds mean something only beside others of the same request and machine."""
    return Cost(1 / estimate.speed.tokens_per_s, estimate.memory.peak_bytes, is_measured=False)


def baseline_of(rated: Iterable[Rated], named: str | None = None) -> Rated | None:
    """The baseline among `rated`, which is the strategy `named`, a rung's name with its micro-batch or without, if one
    is named; None where nothing is rated. UsageError where none of them has that name."""
    every = tuple(rated)
    if named is not None:
        check_baseline(named, [one.strategy for one in every])
        every = tuple(one for one in every if is_named(one.strategy, named))
    among = tuple(one for one in every if one.fits) or every
    if not among:
        return None
    plainest = min((one.strategy.rung for one in among), key=_plainness)
    return min((one for one in among if one.strategy.rung == plainest), key=_preference)


def check_asked_baseline(setting: Setting) -> None:
    """Checks what can be told of the baseline that is asked for before any rung is estimated; UsageError as
    `check_baseline`."""
    named = setting.request.baseline
    if named is not None:
        every = rungs(setting, settle(setting))
        _check_named(named, any(_is_named(rung, named) for rung in every), every)


def check_baseline(named: str, strategies: Collection[Strategy]) -> None:
    """Checks that one of the strategies has that name; UsageError names the rungs that there are."""
    _check_named(named, any(is_named(one, named) for one in strategies), [one.rung for one in strategies])


def _check_named(named: str, is_there: bool, there: Iterable[Rung]) -> None:
    if not is_there:
        names = dict.fromkeys(_short_name(rung) for rung in sorted(set(there), key=_plainness))
        raise UsageError(f"--baseline {named} is no strategy of this request; there are {', '.join(names)}.")


def is_named(strategy: Strategy, name: str) -> bool:
    """Whether `name` is the strategy's or its rung's, with what is settled for all rungs or without, in any order."""
    micro_batch = name.strip().partition(" ")[2].strip()
    return _is_named(strategy.rung, name) and micro_batch in ("", f"mb{strategy.micro_batch}")


def _is_named(rung: Rung, name: str) -> bool:
    words = frozenset(name.strip().partition(" ")[0].split("+"))
    return any(words == frozenset(one.split("+")) for one in (str(rung), _short_name(rung)))


def _short_name(rung: Rung) -> str:
    return str(rung).removesuffix(rung.settled_name)


def _plainness(rung: Rung) -> tuple[int, ...]:
    """All parameters come before LoRA, however plainly that is run: it is one of the things that are turned on."""
    return rung.change, *plainness(rung)


def _preference(one: Rated) -> tuple[bool, float]:
    """The fastest measured one, else the fastest predicted one; of what does not fit the leanest."""
    return not one.cost.is_measured, one.cost.token_s if one.fits else one.cost.peak_device_bytes

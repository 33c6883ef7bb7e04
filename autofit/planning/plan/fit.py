"""Whether a strategy will fit, as far as its estimate can tell, and whether what a probe measured will last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from autofit.domain.estimate import Estimate, MemoryEstimate
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.knobs.offload import Offload
from autofit.domain.outcome import Measured, Place
from autofit.domain.plan import Candidate, Shortfall, Verdict
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.units import format_bytes
from autofit.planning.memory.interval import HEADROOM
from autofit.planning.memory.states import are_states_too_large
from autofit.planning.setting import Setting
from autofit.planning.space.ladder_builder import make_step, memory_of, strategies_of

from .adamw_peak import adamw_peak_bytes

SURE_SHARE = 0.80
"""The share of the device's memory below which an estimate is sure: of 454 jobs on A100 and H100, none whose estimate
was below it ran out (arXiv 2411.06465)."""


RUNTIME_TIMES = 2
"""How many times its bytes the processes of a host may take: what is expected of a GPU's rank was not measured, and a
training's own data and loaders lie there too."""


@dataclass(frozen=True)
class Ruling:
    """The part of a Candidate that says whether it will fit."""

    verdict: Verdict
    reason: str
    shortfall: Shortfall | None = None


def judge(strategy: Strategy, estimate: Estimate, setting: Setting) -> Candidate:
    """Judges an estimate, on the device and on the host: too large by the lower bound, sure by the upper bound; in
    between only a probe can tell."""
    memory = estimate.memory
    found = _ruling(_device_ruling(memory, setting), _host_ruling(memory, setting))
    is_expected = found.verdict.may_fit and leaves_room(memory, setting)
    return Candidate(
        strategy,
        estimate,
        found.verdict,
        found.reason,
        is_expected,
        shortfall=found.shortfall,
        adamw_peak_bytes=adamw_peak_bytes(strategy, setting),
    )


def _ruling(device: Ruling, host: Ruling | None) -> Ruling:
    """The worse of two rulings; where neither is too large the reasons of both, the doubtful one last."""
    if host is None:
        return device
    if Verdict.TOO_LARGE in (device.verdict, host.verdict):
        return host if host.verdict is Verdict.TOO_LARGE else device
    first, last = (device, host) if host.verdict is Verdict.PROBE else (host, device)
    return Ruling(last.verdict, f"{first.reason}; {last.reason}")


def leaves_room(memory: MemoryEstimate, setting: Setting, underestimate: float = 1.0) -> bool:
    """Whether the expected peaks fit, on the device with the headroom that a whole training needs.

    `underestimate` is the factor by which predictions of device memory were seen to be too low.
    """
    has_host = _is_on_host(setting) or memory.host_bytes <= setting.host_available_bytes
    return has_host and _has_device_room(memory, setting, underestimate)


def _has_device_room(memory: MemoryEstimate, setting: Setting, underestimate: float) -> bool:
    return underestimate * memory.peak_bytes <= (1 - HEADROOM) * setting.device_memory_bytes


def fitting(rungs: Iterable[Rung], setting: Setting, underestimate: float = 1.0) -> Iterator[tuple[Strategy, Estimate]]:
    """The strategies of some rungs that are expected to fit, as `leaves_room`. What does not fit takes little time."""
    for rung in rungs:
        if may_leave_room(rung, setting, underestimate):
            step = make_step(rung, setting)
            for strategy, estimate in zip(step.strategies, step.estimates, strict=True):
                if leaves_room(estimate.memory, setting, underestimate):
                    yield strategy, estimate


def may_leave_room(rung: Rung, setting: Setting, underestimate: float) -> bool:
    """Whether a micro-batch of the rung may fit. A part of an optimizer lies on the device beside all that does where
    the whole is offloaded; how large that part is, and what is left for the host, is not looked for here."""
    if are_states_too_large(rung, setting):
        return False
    if rung.offload is Offload.PARTIAL:
        whole = strategies_of(replace(rung, offload=Offload.OPTIMIZER), setting)
        return any(_has_device_room(memory_of(one, setting), setting, underestimate) for one in whole)
    return any(leaves_room(memory_of(one, setting), setting, underestimate) for one in strategies_of(rung, setting))


def host_high_bytes(memory: MemoryEstimate) -> int:
    """The most that a node's host may be asked for: tensors are known to the byte, processes are not."""
    return memory.host_bytes + (RUNTIME_TIMES - 1) * memory.host.runtime_bytes


def is_host_asked(memory: MemoryEstimate, hardware: Hardware) -> bool:
    """Whether the host has a say in what fits: something is offloaded, or there may be too little of it, and it is not
    the device itself."""
    is_short = host_high_bytes(memory) > hardware.host_available_bytes
    return hardware.kind is not DeviceKind.CPU and (memory.host.offloaded_bytes > 0 or is_short)


def may_lack_host(memory: MemoryEstimate, hardware: Hardware) -> bool:
    """Whether the host has a say and may have too little."""
    return is_host_asked(memory, hardware) and host_high_bytes(memory) > hardware.host_available_bytes


def _host_ruling(memory: MemoryEstimate, setting: Setting) -> Ruling | None:
    """Judges the host; None where it has no say. There is no doing without what is offloaded; the rest of the host's
    need is less certain."""
    if not is_host_asked(memory, setting.hardware):
        return None
    has_bytes, offloaded_bytes = setting.host_available_bytes, memory.host.offloaded_bytes
    high_bytes = host_high_bytes(memory)
    assumed = " assumed" if setting.hardware.is_host_memory_assumed else ""
    of = f"of{assumed} {format_bytes(has_bytes)} host memory"
    if offloaded_bytes > has_bytes:
        short = Shortfall(Place.HOST, offloaded_bytes - has_bytes)
        return too_large(short, f"offloads {format_bytes(offloaded_bytes)} {of}")
    if high_bytes <= has_bytes:
        return Ruling(Verdict.FITS, f"{format_bytes(high_bytes)} at most {of}")
    return Ruling(Verdict.PROBE, f"may need {format_bytes(high_bytes)} {of}")


def _device_ruling(memory: MemoryEstimate, setting: Setting) -> Ruling:
    has_bytes = setting.device_memory_bytes
    low, high, has = (format_bytes(size) for size in (memory.low_bytes, memory.high_bytes, has_bytes))
    if memory.low_bytes > has_bytes:
        return too_large(Shortfall(Place.DEVICE, memory.low_bytes - has_bytes), f"needs {low} at least of {has}")
    if memory.high_bytes < SURE_SHARE * has_bytes:
        return Ruling(Verdict.FITS, f"needs {high} at most, below {100 * SURE_SHARE:.0f} % of {has}")
    return Ruling(Verdict.PROBE, f"needs {low} to {high} of {has}")


def too_large(shortfall: Shortfall, because: str) -> Ruling:
    return Ruling(Verdict.TOO_LARGE, f"{shortfall_text(shortfall)}: {because}", shortfall)


def shortfall_text(shortfall: Shortfall) -> str:
    what = "too large" if shortfall.place is Place.DEVICE else "host memory is short"
    return f"{what} by {format_bytes(shortfall.short_bytes)}"


def _is_on_host(setting: Setting) -> bool:
    """Whether a rank's device memory is the host's, as a CPU rank's is, which is then judged once."""
    return setting.kind is DeviceKind.CPU


def fits(measured: Measured, device_bytes: int) -> bool:
    """Whether it fits for good: not if the allocator thrashed to make room, and not if nothing is left for a longer
    run."""
    return measured.alloc_retries == 0 and measured.peak_device_bytes <= (1 - HEADROOM) * device_bytes

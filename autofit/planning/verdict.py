"""Whether a strategy will fit, as far as its estimate can tell."""

from __future__ import annotations

from autofit.domain.estimate import Estimate, MemoryEstimate
from autofit.domain.hardware import DeviceKind
from autofit.domain.plan import Candidate, Verdict
from autofit.domain.strategy import Strategy
from autofit.domain.units import format_bytes

from .fit import HEADROOM
from .setting import Setting

SURE_SHARE = 0.80
"""Of the device's memory: of 454 jobs on A100 and H100, none whose estimate was below it ran out (arXiv 2411.06465)."""


def judge(strategy: Strategy, estimate: Estimate, setting: Setting) -> Candidate:
    """Too large by the lower bound, sure by the upper bound; in between only a probe can tell."""
    memory = estimate.memory
    verdict, reason = _host_verdict(memory, setting) or _device_verdict(memory, setting)
    is_expected = verdict in (Verdict.FITS, Verdict.PROBE) and leaves_room(memory, setting)
    return Candidate(strategy, estimate, verdict, reason, is_expected)


def leaves_room(memory: MemoryEstimate, setting: Setting, underestimate: float = 1.0) -> bool:
    """Whether the expected peaks fit, on the device with the headroom that a whole training needs.

    `underestimate` is the factor by which predictions of device memory were seen to be too low.
    """
    has_device = underestimate * memory.peak_bytes <= (1 - HEADROOM) * setting.device_memory_bytes
    return has_device and (_is_on_host(setting) or memory.host_bytes <= setting.host_available_bytes)


def _host_verdict(memory: MemoryEstimate, setting: Setting) -> tuple[Verdict, str] | None:
    """What is offloaded is known to the byte and there is no doing without it; the rest of the host's need is not."""
    has_bytes = setting.host_available_bytes
    if _is_on_host(setting) or memory.host_bytes <= has_bytes:
        return None
    offloaded_bytes, of = memory.host.offloaded_bytes, f"of {format_bytes(has_bytes)} host memory"
    if offloaded_bytes > has_bytes:
        short = format_bytes(offloaded_bytes - has_bytes)
        return Verdict.TOO_LARGE, f"host memory is short by {short}: offloads {format_bytes(offloaded_bytes)} {of}"
    if memory.low_bytes > setting.device_memory_bytes:
        return None
    return Verdict.PROBE, f"may need {format_bytes(memory.host_bytes)} {of}"


def _device_verdict(memory: MemoryEstimate, setting: Setting) -> tuple[Verdict, str]:
    has_bytes = setting.device_memory_bytes
    low, high, has = (format_bytes(size) for size in (memory.low_bytes, memory.high_bytes, has_bytes))
    if memory.low_bytes > has_bytes:
        short = format_bytes(memory.low_bytes - has_bytes)
        return Verdict.TOO_LARGE, f"too large by {short}: needs {low} at least of {has}"
    if memory.high_bytes < SURE_SHARE * has_bytes:
        return Verdict.FITS, f"needs {high} at most, below {100 * SURE_SHARE:.0f} % of {has}"
    return Verdict.PROBE, f"needs {low} to {high} of {has}"


def _is_on_host(setting: Setting) -> bool:
    """A CPU rank's device memory is the host's, which is then judged once."""
    return setting.kind is DeviceKind.CPU

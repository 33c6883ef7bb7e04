"""What would make a request fit, by the same formulas: one change at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from autofit.domain.hardware import DeviceKind
from autofit.domain.ladder import Ladder
from autofit.domain.request import Pins
from autofit.domain.strategy import Method, Rung
from autofit.domain.units import format_bytes

from .axes import rungs
from .ladder import make_step
from .memory import offloaded_bytes
from .setting import Setting

SHORTEST_TOKENS = 64
MOST_TIMES_THE_DEVICES = 64


@dataclass(frozen=True)
class Case:
    """A changed setting, and what to do to get there."""

    text: str
    setting: Setting


def advice(ladder: Ladder, setting: Setting, underestimate: float = 1.0) -> tuple[str, ...]:
    """The smallest change of each kind after which the leanest rung is predicted to fit, with its device memory.

    `underestimate` is the factor by which the predictions were seen to be too low.
    """
    known = [*(step.rung for step in ladder.steps), *(out.rung for out in ladder.left_out)]
    kinds = (_lora(setting), _fewer_pins(setting), _shorter(setting), _more_devices(setting)) if known else ()
    fitting = (_first_fitting(cases, known[0], underestimate) for cases in kinds)
    return tuple(text for text in (*fitting, _more_host_memory(ladder)) if text is not None)


def _first_fitting(cases: Iterator[Case], like: Rung, underestimate: float) -> str | None:
    for case in cases:
        needed_bytes = underestimate * _leanest_bytes(case.setting, like)
        if needed_bytes <= case.setting.device_memory_bytes:
            return f"{case.text} ({format_bytes(needed_bytes)} predicted)"
    return None


def _leanest_bytes(setting: Setting, like: Rung) -> float:
    """Device memory of the rung that needs least of it, among those whose offloaded states the host can hold."""
    steps = [make_step(rung, setting) for rung in rungs(setting, like.attention, like.dtype)]
    held = [step for step in steps if offloaded_bytes(step.strategies[0], setting) <= setting.host_available_bytes]
    return min((step.estimates[0].memory.peak_bytes for step in held), default=float("inf"))


def _lora(setting: Setting) -> Iterator[Case]:
    if setting.request.pins.method is Method.FULL:
        yield Case("--method lora", _with_pins(setting, replace(setting.request.pins, method=Method.LORA)))


def _fewer_pins(setting: Setting) -> Iterator[Case]:
    pins = setting.request.pins
    freed = Pins(method=pins.method, dtype=pins.dtype, attention=pins.attention)
    if freed != pins:
        yield Case("the search free to choose: fewer pinned options", _with_pins(setting, freed))


def _shorter(setting: Setting) -> Iterator[Case]:
    tokens = setting.worst_tokens // 2
    while tokens >= SHORTEST_TOKENS:
        yield Case(f"--seq {tokens}", replace(setting, worst_tokens=tokens))
        tokens //= 2


def _more_devices(setting: Setting) -> Iterator[Case]:
    """Twice as many, four times as many, as long as they can share the global batch."""
    times = 2
    while times <= MOST_TIMES_THE_DEVICES and setting.request.global_batch % (setting.rank_count * times) == 0:
        added = setting.rank_count * (times - 1)
        noun = "rank" if setting.kind is DeviceKind.CPU else "GPU"
        text = f"{added} more {noun}{'' if added == 1 else 's'} like {'this' if setting.rank_count == 1 else 'these'}"
        pins = setting.request.pins
        if (
            pins.micro_batch is None
            or setting.request.global_batch // (setting.rank_count * times) % pins.micro_batch == 0
        ):
            yield Case(text, replace(setting, hardware=replace(setting.hardware, nodes=setting.hardware.nodes * times)))
        times *= 2


def _more_host_memory(ladder: Ladder) -> str | None:
    short = [(out.host_short_bytes, str(out.rung)) for out in ladder.left_out if out.host_short_bytes is not None]
    if not short:
        return None
    short_bytes, rung = min(short)
    return f"{format_bytes(short_bytes)} more free host memory ({rung})"


def _with_pins(setting: Setting, pins: Pins) -> Setting:
    return replace(setting, request=replace(setting.request, pins=pins))

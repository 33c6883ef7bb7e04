"""What would make a request fit, by the same formulas: one change at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from autofit.domain.estimate import Estimate
from autofit.domain.hardware import DeviceKind, Hardware, Link
from autofit.domain.knobs.method import METHOD, Method
from autofit.domain.knobs.pins import Pins
from autofit.domain.ladder import Ladder
from autofit.domain.strategy import KNOBS
from autofit.domain.units import format_bytes
from autofit.planning.setting import Setting
from autofit.planning.space.axes import Settled, as_pinned, rungs
from autofit.planning.space.ladder_builder import make_step

from .fit import fitting, leaves_room

SHORTER_SHARES = (3 / 4, 1 / 2, 3 / 8, 1 / 4, 1 / 8, 1 / 16)
SHORTEST_TOKENS = 64
MOST_TIMES_THE_DEVICES = 64
_BIGGER = 1.1  # times the memory: two products of one size differ by some megabytes
_DEVICES_OF_A_NODE = 8


@dataclass(frozen=True)
class Case:
    """A changed setting, what to do to get there, and what the settled knobs would be."""

    text: str
    setting: Setting
    settled: Settled


def settled_of(ladder: Ladder) -> Settled | None:
    """What the settled knobs of a ladder's rungs are; None where it has no rungs at all."""
    known = [*(step.rung for step in ladder.steps), *(out.rung for out in ladder.left_out)]
    return Settled(known[0].by_name) if known else None


def advice(ladder: Ladder, setting: Setting, underestimate: float = 1.0) -> tuple[str, ...]:
    """What would make something fit of a ladder of which nothing does."""
    settled = settled_of(ladder)
    return () if settled is None else would_fit(setting, settled, underestimate=underestimate)


def would_fit(
    setting: Setting,
    settled: Settled,
    *,
    bigger: tuple[Hardware, ...] = (),
    has_lora: bool = True,
    underestimate: float = 1.0,
) -> tuple[str, ...]:
    """The smallest change of each kind after which a rung is predicted to fit, with its memory and speed then.

    `bigger` are other machines with as many devices; `has_lora` allows LoRA in the place of all parameters;
    `underestimate` is the factor by which the predictions were seen to be too low.
    """
    here = Case("", setting, settled)
    kinds = (
        _lora(here) if has_lora else iter(()),
        _fewer_pins(here),
        _shorter(here),
        _more_devices(here),
        _bigger_devices(here, bigger),
    )
    found = [text for cases in kinds if (text := _first_fitting(cases, underestimate)) is not None]
    host = _more_host_memory(here, underestimate)
    return tuple(found) if host is None else (*found, host)


def _first_fitting(cases: Iterator[Case], underestimate: float) -> str | None:
    for case in cases:
        found = [one for _, one in fitting(rungs(case.setting, case.settled), case.setting, underestimate)]
        if found:
            best = max(found, key=lambda one: one.speed.tokens_per_s)
            return f"{case.text} ({_figures(best, underestimate)})"
    return None


def _figures(estimate: Estimate, underestimate: float) -> str:
    memory = format_bytes(underestimate * estimate.memory.peak_bytes)
    return (
        f"{memory}, ~{float(f'{estimate.speed.tokens_per_s:.1e}'):,.0f} tokens/s"
        if estimate.speed.is_absolute
        else memory
    )


def _lora(here: Case) -> Iterator[Case]:
    pins = here.setting.request.pins
    if pins.of(METHOD) is Method.FULL:
        yield replace(here, text="--method lora", setting=_with_pins(here.setting, pins.but(method=Method.LORA)))


def _fewer_pins(here: Case) -> Iterator[Case]:
    pins = here.setting.request.pins
    freed = pins.only([knob for knob in KNOBS if knob.changes_training or knob.is_settled])
    if freed != pins:
        text = "the search free to choose: fewer pinned options"
        yield replace(here, text=text, setting=_with_pins(here.setting, freed))


def _shorter(here: Case) -> Iterator[Case]:
    for share in SHORTER_SHARES:
        tokens = round(here.setting.worst_tokens * share) // SHORTEST_TOKENS * SHORTEST_TOKENS
        if tokens >= SHORTEST_TOKENS:
            yield replace(here, text=f"--seq {tokens}", setting=replace(here.setting, worst_tokens=tokens))


def _more_devices(here: Case) -> Iterator[Case]:
    """The machine with twice as many devices, four times as many, as long as they can share the global batch. CPU ranks
    share their memory."""
    count, times = here.setting.rank_count, 2
    while (
        here.setting.kind is DeviceKind.CUDA
        and times <= MOST_TIMES_THE_DEVICES
        and _can_share(here.setting, count * times)
    ):
        added = count * (times - 1)
        text = f"{added} more GPU{'' if added == 1 else 's'} like {'this' if count == 1 else 'these'}"
        grown = _grown(here.setting.hardware, times)
        yield replace(here, text=text, setting=replace(here.setting, hardware=grown))
        times *= 2


def _can_share(setting: Setting, rank_count: int) -> bool:
    global_batch, micro_batch = setting.request.global_batch, setting.request.pins.micro_batch or 1
    return global_batch % (rank_count * micro_batch) == 0


def _grown(hardware: Hardware, times: int) -> Hardware:
    """The machine with more devices, in the same node as long as such nodes are built, else in more nodes."""
    node = hardware.nodes[0]
    if len(hardware.nodes) > 1 or hardware.rank_count * times > _DEVICES_OF_A_NODE:
        return replace(hardware, nodes=hardware.nodes * times)
    link = node.link if len(node.devices) > 1 else Link.UNKNOWN
    return replace(hardware, nodes=(replace(node, devices=node.devices * times, link=link),))


def _bigger_devices(here: Case, bigger: tuple[Hardware, ...]) -> Iterator[Case]:
    """The devices with clearly more memory, the smallest first; of equal ones, the first of the table."""
    least_bytes = _BIGGER * here.setting.device_memory_bytes
    more = [one for one in bigger if one.device_memory_bytes >= least_bytes]
    for hardware in sorted(more, key=lambda one: one.device_memory_bytes):
        there = replace(here.setting, hardware=hardware, known_constants=None)
        yield Case(hardware.summary, there, as_pinned(there))


def _more_host_memory(here: Case, underestimate: float) -> str | None:
    """The machine with more host memory, for the rung that fits on the device and misses least on the host."""
    has_bytes = here.setting.host_available_bytes
    enough = replace(here.setting, hardware=_with_endless_hosts(here.setting.hardware))
    short = [
        (one.memory.host_bytes - has_bytes, one)
        for rung in rungs(here.setting, here.settled)
        for one in make_step(rung, here.setting).estimates
        if one.memory.host_bytes > has_bytes and leaves_room(one.memory, enough, underestimate)
    ]
    if not short or here.setting.kind is DeviceKind.CPU:
        return None
    short_bytes, estimate = min(short, key=lambda pair: pair[0])
    return f"{format_bytes(short_bytes)} more free host memory ({_figures(estimate, underestimate)})"


def _with_endless_hosts(hardware: Hardware) -> Hardware:
    nodes = tuple(replace(node, host=replace(node.host, memory_available_bytes=2**62)) for node in hardware.nodes)
    return replace(hardware, nodes=nodes)


def _with_pins(setting: Setting, pins: Pins) -> Setting:
    return replace(setting, request=replace(setting.request, pins=pins))

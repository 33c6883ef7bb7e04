"""The table of a plan: a line for each rung that may fit, the others gathered by their reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Place
from autofit.domain.plan import Candidate, Plan, Verdict
from autofit.domain.units import format_bytes
from autofit.planning.plan.fit import shortfall_text
from autofit.report.ladder.families import Entry, family, folded_text, opened
from autofit.report.ladder.ladder_table import memory_bar
from autofit.report.ladder.skipped_rungs import Skipped
from autofit.report.line import WIDTH, Line, Style, clip, quiet_lines, wrap

from .plan_figures import Terms, host_text, hours_text, memory_text, shows_host, speed_text

_GAP = "  "
_RIVAL_SHARE = 0.98  # of the pick's speed
_BAR_COLUMNS = (4, 21)  # fewest and most; none where names would have to be cut for it
_HOST = "host"
_WORDS = {Verdict.FITS: "fits", Verdict.PROBE: "must be probed"}
_PICKS = {Verdict.FITS: "the pick", Verdict.PROBE: "pick, unsure"}
_STYLES = {Verdict.FITS: Style.GOOD, Verdict.PROBE: Style.PLAIN}


@dataclass(frozen=True)
class _Row:
    name: str
    micro_batch: str
    memory_bytes: int
    memory: str
    is_measured: bool
    host: str
    speed: str
    hours: str
    verdict: str
    style: Style


def plan_table(plan: Plan, terms: Terms, *, width: int = WIDTH) -> list[Line]:
    """The table with the best of each family; what all rungs share of their names stands in the heading."""
    shown = _shown(plan)
    shared = _shared_name(plan)
    rows = [_row(plan, terms, one, shared) for one in shown]
    if not any(shows_host(plan, one) for one in shown):
        rows = [replace(row, host="") for row in rows]
    columns = _widths(rows, width, _host_title(plan))
    columns = columns if columns.bar else _widths(rows, width, _HOST)
    lines = [_heading(plan, columns, has_hours=any(row.hours for row in rows))] if rows else []
    lines += [_line(plan, row, columns) for row in rows]
    lines += _folded_lines(plan, shown, shared, width)
    return lines + [line for group in _gathered(plan) for line in _group_lines(group, shared, width)]


def _host_title(plan: Plan) -> str:
    return f"{_HOST} of {format_bytes(plan.hardware.host_available_bytes)}"


def device_word(plan: Plan) -> str:
    return "rank" if plan.hardware.kind is DeviceKind.CPU else "GPU"


def _shown(plan: Plan) -> list[Candidate]:
    entries = [
        Entry(one.strategy.rung, one.verdict is Verdict.FITS, is_kept=_is_kept(plan, one)) for one in plan.possible
    ]
    lines = opened(entries)
    return [one for one in plan.possible if one.strategy.rung in lines]


def _is_kept(plan: Plan, one: Candidate) -> bool:
    """Whether it is shown whatever the others are: the pick and its rivals in the family, the plain rung beside it,
    and what was rehearsed."""
    return one in (plan.choice, plan.plain) or one.rehearsed is not None or _is_rival(plan.choice, one)


def _is_rival(choice: Candidate | None, one: Candidate) -> bool:
    """Whether it is of the pick's family, and about as fast."""
    if choice is None or choice.estimate is None or one.estimate is None:
        return False
    is_close = one.estimate.speed.tokens_per_s >= _RIVAL_SHARE * choice.estimate.speed.tokens_per_s
    return is_close and family(one.strategy.rung) == family(choice.strategy.rung)


def _row(plan: Plan, terms: Terms, one: Candidate, shared: str) -> _Row:
    assert one.estimate is not None
    due = terms.cost(plan, one)
    return _Row(
        name=str(one.strategy.rung).removesuffix(shared),
        micro_batch=f"mb{one.strategy.micro_batch}",
        memory_bytes=one.estimate.memory.peak_bytes,
        memory=memory_text(one),
        is_measured=one.rehearsed is not None,
        host=host_text(one),
        speed=speed_text(plan, one),
        hours="" if due is None else f"~{hours_text(due.hours)}",
        verdict=(_PICKS if one == plan.choice else _WORDS)[one.verdict],
        style=_STYLES[one.verdict],
    )


@dataclass(frozen=True)
class _Widths:
    name: int
    micro_batch: int
    bar: int
    memory: int
    host: int
    host_title: str
    speed: int
    hours: int


def _widths(rows: list[_Row], width: int, host_title: str) -> _Widths:
    micro_batch = max((len(row.micro_batch) for row in rows), default=0)
    memory = max((len(row.memory) for row in rows), default=0)
    host = max((max(len(row.host), len(host_title)) for row in rows if row.host), default=0)
    speed = max([8, *(len(row.speed) for row in rows)])
    hours = max((len(row.hours) for row in rows), default=0)
    verdict = max((len(row.verdict) for row in rows), default=0)
    gaps = (4 + bool(host) + bool(hours)) * len(_GAP) + 1
    room = width - micro_batch - memory - host - speed - hours - verdict - gaps
    fewest, most = _BAR_COLUMNS
    longest = max([5, *(len(row.name) for row in rows)])
    bar = min(room - longest, most) if room - longest >= fewest else 0
    name = min(longest, room if bar else room + len(_GAP))
    return _Widths(name, micro_batch, bar, memory, host, host_title, speed, hours)


def _heading(plan: Plan, columns: _Widths, *, has_hours: bool) -> Line:
    room = columns.bar + len(_GAP) + columns.memory if columns.bar else columns.memory
    size, word = format_bytes(plan.hardware.device_memory_bytes), device_word(plan)
    texts = (f"memory per {word} (of {size})", f"{word} memory ({size})", f"of {size}")
    memory = next((text for text in texts if len(text) <= room), "memory")
    speed = "tokens/s" if _is_absolute(plan) else "speed"
    shared = _shared_name(plan)
    label = f"ladder{', each ' + shared if shared else ''}".ljust(columns.name + 1 + columns.micro_batch)
    parts = [label, memory.ljust(room), *([columns.host_title.rjust(columns.host)] if columns.host else [])]
    parts.append(speed.rjust(columns.speed))
    return ((_GAP.join(parts + (["time".rjust(columns.hours)] if has_hours else [])), Style.LABEL),)


def _shared_name(plan: Plan) -> str:
    """What all rungs that could run have at the end of their names."""
    names = {one.strategy.rung.settled_name for one in plan.candidates if one.verdict is not Verdict.UNSUPPORTED}
    return names.pop() if len(names) == 1 else ""


def _is_absolute(plan: Plan) -> bool:
    return all(one.estimate is None or one.estimate.speed.is_absolute for one in plan.candidates)


def _line(plan: Plan, row: _Row, columns: _Widths) -> Line:
    label = f"{clip(row.name, columns.name).ljust(columns.name)} {row.micro_batch.ljust(columns.micro_batch)}{_GAP}"
    limit_bytes = plan.hardware.device_memory_bytes
    bar = memory_bar(row.memory_bytes, limit_bytes, columns.bar, not row.is_measured) + _GAP if columns.bar else ""
    figures = [row.memory.rjust(columns.memory), *([row.host.rjust(columns.host)] if columns.host else [])]
    figures.append(row.speed.rjust(columns.speed))
    figures += [row.hours.rjust(columns.hours)] if columns.hours else []
    return (
        (label, Style.PLAIN),
        (bar, Style.BAR),
        (_GAP.join(figures) + _GAP, Style.PLAIN),
        (row.verdict, row.style),
    )


def _folded_lines(plan: Plan, shown: Sequence[Candidate], shared: str, width: int) -> list[Line]:
    """What is said of the rungs that may fit and have no line."""
    lines = [one.strategy.rung for one in shown]
    folded = [one.strategy.rung for one in plan.possible if one not in shown]
    if not folded:
        return []
    names = {rung: str(rung).removesuffix(shared) for rung in folded}
    return quiet_lines(folded_text("that may fit", folded, lines, names), width=width)


def _gathered(plan: Plan) -> list[Skipped]:
    """The rungs that are too large by the device or by the host, and those that are not supported."""
    groups: dict[Place | str, list[Candidate]] = defaultdict(list)
    for one in plan.candidates:
        if one.verdict not in _WORDS:
            groups[one.reason if one.shortfall is None else one.shortfall.place].append(one)
    return [
        Skipped(tuple(one.strategy.rung for one in members), tuple(_brief(one) for one in members))
        for members in groups.values()
    ]


def _brief(one: Candidate) -> str:
    """The reason without what differs from rung to rung in more than its amount."""
    if one.verdict is Verdict.UNSUPPORTED:
        return one.reason
    if one.shortfall is None:
        return f"too large: {one.reason}"
    text = shortfall_text(one.shortfall)
    return text if one.shortfall.place is Place.DEVICE else f"too large: {text}"


def _group_lines(group: Skipped, shared: str, width: int) -> list[Line]:
    columns = 24
    label = clip(group.names(columns, shared), columns).ljust(columns)
    rows = wrap(group.reason, width - columns - len(_GAP))
    first: Line = ((label + _GAP + rows[0], Style.QUIET),)
    return [first, *(((" " * (columns + len(_GAP)) + row, Style.QUIET),) for row in rows[1:])]

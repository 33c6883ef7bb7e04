"""The ladder table: one line a rung, with a bar of the device's memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

from autofit.domain.strategy import Rung
from autofit.domain.units import format_bytes
from autofit.report.line import WIDTH, Line, Style, clip, quiet_lines, wrap
from autofit.report.ratios import NAMES, baseline_text
from autofit.report.view import View

from .families import folded_text, more_text
from .ladder_row import Row
from .predicted_rows import unseen_choice_rows, waiting_row, waiting_steps
from .probed_rows import tried_rows
from .skipped_rungs import Skipped, skipped

_GAP = "  "
_BAR_COLUMNS = (4, 22)  # fewest and most
_EIGHTHS = " ▏▎▍▌▋▊▉"
_MESSAGE_ROWS = 2
_RATIO_COLUMNS = 8  # `EnergyUp`
_NO_RATIOS = ("",) * len(NAMES)
_WIDE = 110  # columns from which on the ratios are shown


@dataclass(frozen=True)
class _Columns:
    name: int
    micro_batch: int
    bar: int
    memory: int
    tokens: int
    ratios: int  # columns of ratios, each of _RATIO_COLUMNS
    state: int

    @property
    def label(self) -> int:
        return self.name + len(_GAP) + self.micro_batch

    @property
    def message(self) -> int:
        return self.bar + self.memory + self.tokens + 2 * len(_GAP) + self.ratios_width

    @property
    def ratios_width(self) -> int:
        return self.ratios * (_RATIO_COLUMNS + len(_GAP))


def table_lines(
    view: View, now_s: float = 0.0, *, width: int = WIDTH, row_limit: int | None = None, waiting: str = "not tried"
) -> list[Line]:
    """The table at `now_s`; `row_limit` shortens the list of what waits, `waiting` is the word for it."""
    tried, (waits, folded) = unseen_choice_rows(view) + tried_rows(view, now_s), waiting_steps(view)
    rows = [waiting_row(view, step, waiting) for step in waits]
    columns = _columns(tried + rows, width)
    first = [_heading(view, columns), *_rows_lines(view, tried, columns)]
    last = [line for group in skipped(view) for line in _skipped_lines(group, columns)]
    room = len(waits) if row_limit is None else max(row_limit - len(first) - len(last) - 1, 1)
    lines = first + _rows_lines(view, rows[:room], columns)
    shown = [*view.tried, *(step.rung for step in waits[:room])]
    more = [step.rung for step in (*waits[room:], *folded)]
    lines += _more_lines(more, shown, waiting, width, is_brief=row_limit is not None)
    return lines + last + _ratios_lines(view, columns, width)


def _ratios_lines(view: View, columns: _Columns, width: int) -> list[Line]:
    """What the ratios are of, where some are shown."""
    if not columns.ratios or view.baseline is None:
        return []
    names = ", ".join(NAMES[: columns.ratios])
    return quiet_lines(f"× {names}: how many times less than {baseline_text(view.baseline)}", width=width)


def _more_lines(more: list[Rung], shown: list[Rung], waiting: str, width: int, *, is_brief: bool) -> list[Line]:
    """What is said of the rungs that wait and have no row; one line where it must be brief."""
    if not more:
        return []
    names = {rung: str(rung) for rung in more}
    text = more_text(waiting, more) if is_brief else folded_text(waiting, more, shown, names)
    return quiet_lines(text, width=width)


def _rows_lines(view: View, rows: list[Row], columns: _Columns) -> list[Line]:
    return [line for row in _unrepeated(rows) for line in _row_lines(view, row, columns)]


def _columns(rows: list[Row], width: int) -> _Columns:
    name = max([16, *(len(row.name) for row in rows)])
    micro_batch = max([5, *(len(row.micro_batch) for row in rows)])
    memory = max([7, *(len(row.memory_text) for row in rows)])
    tokens = max([8, *(len(row.tokens_text) for row in rows)])
    state = max([13, *(len(row.state) for row in rows)])
    ratios = _ratio_count(rows) if width >= _WIDE else 0
    room = width - micro_batch - memory - tokens - state - 5 * len(_GAP) - ratios * (_RATIO_COLUMNS + len(_GAP))
    fewest, most = _BAR_COLUMNS
    bar = min(max(room - name, fewest), most)
    return _Columns(min(name, room - bar), micro_batch, bar, memory, tokens, ratios, state)


def _ratio_count(rows: list[Row]) -> int:
    """How many of the ratios some row has: energy's, the last one, only where it was counted."""
    return max((i for row in rows for i, text in enumerate(row.ratios, 1) if text), default=0)


def _heading(view: View, columns: _Columns) -> Line:
    room = columns.bar + len(_GAP) + columns.memory
    memory = next((text for text in _memory_headings(view) if len(text) <= room), "memory")
    parts = ["ladder".ljust(columns.label), memory.ljust(room), "tokens/s".rjust(columns.tokens)]
    parts += [name.rjust(_RATIO_COLUMNS) for name in NAMES[: columns.ratios]]
    return ((_GAP.join(parts), Style.LABEL),)


def _memory_headings(view: View) -> tuple[str, ...]:
    """The headings of the memory's column, from the widest to the narrowest."""
    limit_bytes, word = view.device_memory_bytes, view.device_word
    if limit_bytes is None:
        return (f"memory per {word}",)
    size = format_bytes(limit_bytes)
    return (f"memory per {word} (of {size})", f"{word} memory ({size})", f"of {size}")


def _unrepeated(rows: list[Row]) -> list[Row]:
    """The rows of a rung, of which the first alone has its name."""
    names = ["", *(row.name for row in rows)]
    return [replace(row, name="") if row.name == above else row for above, row in zip(names, rows, strict=False)]


def _row_lines(view: View, row: Row, columns: _Columns) -> list[Line]:
    label = clip(row.name, columns.name).ljust(columns.name) + _GAP + row.micro_batch.ljust(columns.micro_batch)
    name_style = Style.QUIET if row.style is Style.QUIET else Style.PLAIN
    if row.message:
        return _message_lines((label, name_style), row.message, (row.state, row.style), columns)
    bar_style = Style.QUIET if row.is_predicted else Style.BAR
    ratios = [text.rjust(_RATIO_COLUMNS) for text in (*row.ratios, *_NO_RATIOS)[: columns.ratios]]
    figures = _GAP.join(["", row.memory_text.rjust(columns.memory), row.tokens_text.rjust(columns.tokens), *ratios, ""])
    return [
        (
            (label + _GAP, name_style),
            (memory_bar(row.memory_bytes, view.device_memory_bytes, columns.bar, row.is_predicted), bar_style),
            (figures, name_style),
            (row.state, row.style),
        )
    ]


def _skipped_lines(group: Skipped, columns: _Columns) -> list[Line]:
    label = clip(group.names(columns.label), columns.label)
    return _message_lines((label, Style.QUIET), group.reason, ("skipped", Style.QUIET), columns)


def _message_lines(label: tuple[str, Style], message: str, state: tuple[str, Style], columns: _Columns) -> list[Line]:
    rows = wrap(message, columns.message) or [""]
    if len(rows) > _MESSAGE_ROWS:
        rows = [*rows[: _MESSAGE_ROWS - 1], clip(" ".join(rows[_MESSAGE_ROWS - 1 :]), columns.message)]
    style = state[1]
    first: Line = (
        (label[0].ljust(columns.label) + _GAP, label[1]),
        (rows[0].ljust(columns.message) + _GAP, style),
        state,
    )
    indent = " " * (columns.label + len(_GAP))
    return [first, *(((indent + row, style),) for row in rows[1:])]


def memory_bar(used_bytes: int | None, limit_bytes: int | None, columns: int, is_predicted: bool = False) -> str:
    """A bar of the device's memory: `████▌░░░`, or `▒▒▒▒░░░░` for a prediction; blank when either size is not known."""
    if used_bytes is None or not limit_bytes:
        return " " * columns
    filled = min(used_bytes / limit_bytes, 1.0) * columns
    if is_predicted:
        return ("▒" * max(round(filled), 1)).ljust(columns, "░")
    whole, eighth = int(filled), int(filled % 1 * 8)
    return ("█" * whole + (_EIGHTHS[eighth] if eighth else "")).ljust(columns, "░")

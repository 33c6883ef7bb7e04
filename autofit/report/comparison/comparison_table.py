"""The table of one task: a line for each optimization, with its three ratios or why it has none."""

from __future__ import annotations

from autofit.domain.comparison import Compared, DoesNotFit, Failed, NotCompared, Row, TaskComparison
from autofit.report.line import WIDTH, Line, Style, wrap
from autofit.report.ratios import NAMES, ratio_texts

_GAP = "  "
_NOT_COUNTED = "not measurable here"
_NOT_PREDICTED = "not predicted"


def uncounted_text(one: TaskComparison) -> str:
    """What stands in the place of an energy that nobody knows: here nothing counts it, or nothing was run."""
    return _NOT_COUNTED if one.baseline.cost.is_measured else _NOT_PREDICTED


def comparison_table(one: TaskComparison, *, width: int = WIDTH) -> list[Line]:
    """The table, its heading first."""
    shared = one.baseline.strategy.rung.settled_name
    names = [(row.optimization.text, _strategy_text(row, shared)) for row in one.rows]
    columns = [max(len(cell) for cell in column) for column in zip(("optimization", "strategy"), *names, strict=True)]
    heading = f"strategy, each {shared}" if shared else "strategy"
    columns[1] = max(columns[1], len(heading))
    first = _GAP.join([_name_text(("optimization", heading), columns), *NAMES])
    lines: list[Line] = [((first, Style.LABEL),)]
    for row, name in zip(one.rows, names, strict=True):
        lines += _row_lines(row, _name_text(name, columns), one, width)
    return lines


def _name_text(cells: tuple[str, str], columns: list[int]) -> str:
    return _GAP.join(cell.ljust(column) for cell, column in zip(cells, columns, strict=True))


def _strategy_text(row: Row, shared: str) -> str:
    match row.standing:
        case Compared(rated):
            strategy = rated.strategy
        case DoesNotFit(strategy) | Failed(strategy):
            pass
        case NotCompared():
            return ""
    return f"{str(strategy.rung).removesuffix(shared)} mb{strategy.micro_batch}"


def _row_lines(row: Row, name: str, one: TaskComparison, width: int) -> list[Line]:
    match row.standing:
        case Compared(rated):
            texts = (text or uncounted_text(one) for text in ratio_texts(rated, one.baseline))
            ratios = [text.rjust(len(title)) for text, title in zip(texts, NAMES, strict=True)]
            return [((_GAP.join([name, *ratios]), Style.PLAIN),)]
        case DoesNotFit(_, why):
            return _reason_lines(name, f"does not fit: {why}", Style.BAD, width)
        case Failed(_, why):
            return _reason_lines(name, why, Style.BROKEN, width)
        case NotCompared(why):
            return _reason_lines(name, why, Style.QUIET, width)


def _reason_lines(name: str, text: str, style: Style, width: int) -> list[Line]:
    first, *rest = wrap(text, width - len(name) - len(_GAP))
    indent = " " * len(name) + _GAP
    return [((name + _GAP, Style.PLAIN), (first, style)), *(((indent + row, style),) for row in rest)]

"""Several machines side by side, best first."""

from __future__ import annotations

from collections.abc import Sequence

from autofit.domain.objective import Objective
from autofit.domain.plan import Plan, Verdict
from autofit.report.header import model_text
from autofit.report.line import WIDTH, Line, Style, clip, command_lines, labelled

from .plan_figures import Terms, amount_text, cost_text, hours_text, memory_text, speed_text
from .plan_screen import doubt_text, rehearsal_lines, request_text

_GAP = "  "
_UNSURE = "unsure"
_FIRST = {
    Objective.MEMORY: "the least memory of a device",
    Objective.ENERGY: "the least energy a token, all devices at their full power",
    Objective.BALANCED: "the greatest speed for its memory",
}
_NAME_COLUMNS = (12, 28)  # fewest and most
_HEADINGS = ("machine", "pick", "memory", "", "tokens/s", "time", "price")


def comparison_lines(
    plans: Sequence[Plan], terms: Terms, next_command: Sequence[str], *, width: int = WIDTH
) -> list[Line]:
    """The table of machines, one line for each; columns that nobody asked for are left out."""
    lines = labelled("model", model_text(plans[0].model), width=width)
    lines += labelled("request", request_text(plans[0]), width=width)
    rows = [_cells(plan, terms) for plan in plans]
    kept = [i for i, _ in enumerate(_HEADINGS) if i < 5 or any(row[i] for row in rows)]
    widths = _widths([_HEADINGS, *rows], kept, width)
    table = [_line(row, kept, widths) for row in (_HEADINGS, *rows)]
    best = Style.GOOD if plans[0].verdict is Verdict.FITS else Style.PLAIN
    body: list[Line] = [((table[0], Style.LABEL),), ((table[1], best),)]
    body += [((text, Style.PLAIN),) for text in table[2:]]
    notes = [line for plan in plans for line in _doubt_lines(plan, width)]
    notes += [line for plan in plans for line in rehearsal_lines(plan, width=width, name=_name(plan))]
    return [*lines, (), *body, (), *_answer_lines(plans[0], terms, width), *notes,
            *command_lines(next_command, width=width)]  # fmt: skip


def _answer_lines(best: Plan, terms: Terms, width: int) -> list[Line]:
    """What the first machine is, unless it is the fastest."""
    due = terms.cost(best, best.choice)
    if terms.is_cheapest_first and due is not None and due.price is not None:
        return labelled("cheapest", f"{_name(best)}: {cost_text(due)}", width=width)
    text = _FIRST.get(best.request.objective)
    return [] if text is None or best.choice is None else labelled("first", f"{_name(best)}: {text}", width=width)


def _name(plan: Plan) -> str:
    return plan.hardware.summary.replace("NVIDIA ", "")


def _doubt_lines(plan: Plan, width: int) -> list[Line]:
    """What is not sure of a machine: of its pick, or where it has none of what comes nearest."""
    if plan.verdict is not Verdict.PROBE:
        return []
    one = plan.choice or plan.candidates[0]
    return labelled(_UNSURE, f"{_name(plan)}, {one.strategy}: {doubt_text(one)}", width=width)


def _cells(plan: Plan, terms: Terms) -> tuple[str, ...]:
    name = _name(plan)
    if plan.choice is None or plan.choice.estimate is None:
        count = len(plan.possible)
        return (name, f"none sure, {count} may fit" if count else "nothing fits", "", "", "", "", "")
    due = terms.cost(plan, plan.choice)
    estimate = plan.choice.estimate
    return (
        name,
        str(plan.choice.strategy),
        memory_text(plan.choice),
        "fits" if plan.choice.verdict is Verdict.FITS else _UNSURE,
        speed_text(plan, plan.choice) if estimate.speed.is_absolute else "unknown",
        "" if due is None else f"~{hours_text(due.hours)}",
        "" if due is None or due.price is None else f"~{amount_text(due.price)}",
    )


def _widths(rows: list[tuple[str, ...]], kept: list[int], width: int) -> list[int]:
    """The names of machine and pick give way where the line would be too long."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADINGS))]
    fewest, most = _NAME_COLUMNS
    over = sum(widths[i] for i in kept) + len(_GAP) * (len(kept) - 1) - width
    if over > 0:
        widths[0] = max(widths[0] - over, min(widths[0], fewest))
    widths[1] = min(widths[1], most)
    return widths


def _line(row: tuple[str, ...], kept: list[int], widths: list[int]) -> str:
    cells = [clip(row[i], widths[i]) for i in kept]
    padded = [cell.ljust(widths[i]) if i < 2 else cell.rjust(widths[i]) for i, cell in zip(kept, cells, strict=True)]
    return _GAP.join(padded).rstrip()

"""A comparison as people read it: a block for each task, and what holds for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from autofit.domain.comparison import Comparison, TaskComparison
from autofit.domain.units import format_bytes, rough_bytes, rough_speed
from autofit.report.header import machine_text, model_text
from autofit.report.line import WIDTH, Line, Style, labelled

from .comparison_table import comparison_table
from .winners import shared_sentences, winner_sentences

_LABEL_COLUMNS = 10


def comparisons_lines(comparisons: Sequence[Comparison], *, width: int = WIDTH) -> list[Line]:
    """All machines one below the other; of one model."""
    lines = _labelled("model", model_text(comparisons[0].model), width)
    lines += _labelled("request", _request_text(comparisons[0]), width)
    for comparison in comparisons:
        lines += [(), *_machine_lines(comparison, width)]
    return lines


def _machine_lines(comparison: Comparison, width: int) -> list[Line]:
    lines = _labelled("machine", machine_text(comparison.hardware), width)
    lines += _quiet((*comparison.hardware.notes, *comparison.notes), width)
    for one in comparison.tasks:
        lines += [(), *_task_lines(one, width)]
    if len(comparison.tasks) > 1:
        lines += [(), *_sentence_lines("all tasks", shared_sentences(comparison), width)]
    return lines


def _task_lines(one: TaskComparison, width: int) -> list[Line]:
    lines = _labelled(one.task.value, one.task.traits.text, width, Style.LABEL)
    lines += _labelled("baseline", _baseline_text(one), width)
    return [*lines, *comparison_table(one, width=width), *_sentence_lines("wins", winner_sentences(one), width)]


def _request_text(comparison: Comparison) -> str:
    request = comparison.tasks[0].request
    return f"{request.sequence_length:,} tokens · global batch {request.global_batch}"


def _baseline_text(one: TaskComparison) -> str:
    """The baseline with what it takes: `zero0 mb8 · ~26,000 tokens/s · ~21 GB (predicted)`."""
    cost = one.baseline.cost
    if cost.is_measured:
        figures = [f"{1 / cost.token_s:,.0f} tokens/s", format_bytes(cost.peak_device_bytes)]
        figures += [] if cost.token_j is None else [f"{cost.token_j:.3g} J a token"]
    else:
        figures = [f"~{rough_speed(1 / cost.token_s)} tokens/s"] if one.is_absolute else []
        figures += [f"~{rough_bytes(cost.peak_device_bytes)}", "predicted"]
    why = "" if one.why is None else f" ({one.why})"
    return " · ".join([f"{one.baseline.strategy}{why}", *figures])


def _sentence_lines(label: str, sentences: Iterable[str], width: int) -> list[Line]:
    labels = [label]
    return [line for text in sentences for line in _labelled(labels.pop() if labels else "", text, width)]


def _quiet(notes: Iterable[str], width: int) -> list[Line]:
    return [line for note in notes for line in _labelled("", note, width, Style.QUIET)]


def _labelled(label: str, text: str, width: int, style: Style = Style.PLAIN) -> list[Line]:
    return labelled(label, text, width=width, columns=_LABEL_COLUMNS, style=style)

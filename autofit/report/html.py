"""The page report.html: the whole decision on one page, without scripts or anything from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from autofit.domain.outcome import Measured
from autofit.domain.trial import Choice, Trial
from autofit.domain.units import format_bytes, format_seconds
from autofit.runs.run_folder import RunRecord

from .choice_text import beside_label, beside_text, gives_up_text, left_texts, strategy_text
from .data_text import data_lines
from .header import machine_text, request_text, task_text
from .ladder.skipped_rungs import Skipped, unprobed
from .launch_text import launch_rows
from .line import plain
from .outcome_text import OUTPACED, verdict_text
from .progress import ended_text, timeline_text
from .ratios import NAMES, choice_ratios_text, rated, ratio_texts
from .view import is_outpaced

_WIDE = 10**6  # columns: a page breaks its lines itself
_LABEL = 40  # columns of the names of rungs that share a reason
_STYLE = """
:root { color-scheme: light dark; --ink: #1c2024; --paper: #fdfdfc; --quiet: #697077; --rule: #dfe2e5;
  --bar: #2f7f8f; --good: #1f7a4d; --bad: #9a6700 }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e6e8; --paper: #16181a; --quiet: #98a0a8; --rule: #34383c;
  --bar: #4fa3b3; --good: #5cc48e; --bad: #d9a441 } }
body { margin: 2.5rem auto; max-width: 58rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
  font: 15px/1.55 system-ui, sans-serif }
h1 { font-size: 1.35rem; margin-bottom: .2rem } h2 { font-size: 1.05rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% } td, th { padding: .3rem .8rem .3rem 0; text-align: left;
  border-bottom: 1px solid var(--rule); vertical-align: top } th { font-weight: 600; white-space: nowrap }
td.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
code { font-size: .93em } .quiet { color: var(--quiet) } .good { color: var(--good) } .bad { color: var(--bad) }
.bar { width: 9rem; height: .7rem; background: var(--rule) } .bar i { display: block; height: 100%;
  background: var(--bar) }
"""


def report_html(record: RunRecord) -> str:
    """The page for what the run folder holds so far."""
    title = f"autofit · {record.request.model}"
    parts = [_facts(record), _choice(record), _trials(record), _unprobed(record)]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body><h1>{escape(record.request.model)}</h1>\n" + "\n".join(filter(None, parts)) + "\n</body></html>\n"
    )


def _facts(record: RunRecord) -> str:
    task = task_text(record.request)
    rows = [("task", task)] if task else []
    rows += [("request", request_text(record.request, None)), ("data", record.request.data or "the sample that ships")]
    if record.profile is not None:
        rows += [("", plain([line])) for line in data_lines(record.profile, width=_WIDE)]
    if record.hardware is not None:
        rows.append(("machine", machine_text(record.hardware)))
        rows += [("", note) for note in record.hardware.notes]
    if record.result is not None:
        rows.append(("trained", ended_text(record.result)))
        rows += [("time", timeline_text(record.result.timeline))] if record.result.timeline else []
        rows.append(("model", _beside(record.result.model_path)))
        rows += [("merged", _beside(record.result.merged_path))] if record.result.merged_path else []
    if record.kept is not None:
        rows += launch_rows(record.kept)
    return _table((f"<th>{escape(name)}</th><td>{escape(text)}</td>" for name, text in rows))


def _beside(path: str) -> str:
    """A path as the page names it, which may come to lie elsewhere, with all of its folder."""
    return f"{Path(path).name}/, beside this page"


def _choice(record: RunRecord) -> str:
    choice = record.choice
    if choice is None:
        return ""
    text = strategy_text(choice)
    sums = f"{choice.strategy.micro_batch} × {choice.strategy.gradient_accumulation} accumulation a rank"
    ratios = choice_ratios_text(choice, record.hardware)
    told = [("before", left) for left in left_texts(choice)]
    told += [("ratios", ratios), ("gives up", gives_up_text(choice.strategy))]
    told += [(beside_label(choice), beside_text(choice, record.request.pins))]
    return (
        f'<h2>Choice</h2><p><b class="good">{escape(text)}</b><br>{escape(choice.why)}'
        f'<br><span class="quiet">micro-batch {sums} · {escape(_settings(choice))}</span></p>'
        + "".join(f"<p>{escape(label)}: {escape(text)}</p>" for label, text in told if text)
    )


def _settings(choice: Choice) -> str:
    """The value of every knob in words."""
    return " · ".join(value.text for _, value in choice.strategy.rung.values())


def _trials(record: RunRecord) -> str:
    if not record.trials:
        return ""
    limit_bytes = record.hardware.device_memory_bytes if record.hardware is not None else None
    head = "<th>rung</th><th>memory</th><th></th><th>tokens/s</th><th>predicted</th><th>took</th>"
    ratios = [_ratios(trial, record) for trial in record.trials]
    head += "".join(f"<th>{name}</th>" for name in NAMES) if any(ratios) else ""
    cells = (_trial_cells(trial, limit_bytes) for trial in record.trials)
    rows = [head, *(cell + _ratio_cells(texts) for cell, texts in zip(cells, ratios, strict=True))]
    return "<h2>Probes</h2>" + _table(rows)


def _ratios(trial: Trial, record: RunRecord) -> tuple[str, ...]:
    baseline = None if record.choice is None else record.choice.baseline
    one = None if record.hardware is None else rated(trial, record.hardware.kind)
    return ratio_texts(one, baseline)


def _ratio_cells(texts: tuple[str, ...]) -> str:
    return "".join(f'<td class="n">{text}</td>' for text in texts)


def _trial_cells(trial: Trial, limit_bytes: int | None) -> str:
    outcome = trial.outcome
    mark = " (rehearsed)" if trial.is_rehearsal else f" ({OUTPACED})" if is_outpaced(trial) else ""
    name = f"<td><code>{escape(str(trial.strategy))}</code>{mark}</td>"
    if isinstance(outcome, Measured):
        middle = (
            f"<td>{_bar(outcome.peak_device_bytes, limit_bytes)}</td>"
            f'<td class="n">{format_bytes(outcome.peak_device_bytes)}</td>'
            f'<td class="n">{outcome.tokens_per_s:,.0f}</td>'
        )
    else:
        middle = f'<td colspan="3" class="bad">{escape(verdict_text(outcome, limit_bytes))}</td>'
    predicted = format_bytes(trial.estimate.memory.peak_bytes)
    return f'{name}{middle}<td class="n">{predicted}</td><td class="n">{format_seconds(outcome.total_s)}</td>'


def _bar(used_bytes: int, limit_bytes: int | None) -> str:
    if not limit_bytes:
        return ""
    return f'<div class="bar"><i style="width:{min(used_bytes / limit_bytes, 1.0):.1%}"></i></div>'


def _unprobed(record: RunRecord) -> str:
    groups = () if record.choice is None else unprobed(record.choice, (trial.strategy.rung for trial in record.trials))
    rows = [f'{_names(group)}<td class="quiet">{escape(group.reason)}</td>' for group in groups]
    return "<h2>Not probed</h2>" + _table(rows) if rows else ""


def _names(group: Skipped) -> str:
    """The rungs of a group: what they share and, opened, each with its own reason."""
    short = escape(group.names(_LABEL))
    if len(group.rungs) == 1:
        return f"<td><code>{short}</code></td>"
    each = "<br>".join(
        f"<code>{escape(str(rung))}</code> {escape(why)}" for rung, why in zip(group.rungs, group.reasons, strict=True)
    )
    return f"<td><details><summary><code>{short}</code></summary>{each}</details></td>"


def _table(rows: Iterable[str]) -> str:
    return "<table>" + "".join(f"<tr>{row}</tr>\n" for row in rows) + "</table>"

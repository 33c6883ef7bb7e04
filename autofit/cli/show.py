"""The verb `autofit show`: what a run folder holds, as it was on the screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from autofit.runs.run_folder import RunRecord

_WIDEST = 130  # columns of the table


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "is_json", is_flag=True, help="One JSON object.")
def command(run: Path, is_json: bool) -> None:
    """The trials and the choice of a run; RUN is its folder (--output-dir), or that of several trainings in a row."""
    import sys

    from autofit.report.json_screen import write_json
    from autofit.runs.phases_folder import PhasesFolder
    from autofit.runs.run_folder import RunFolder

    folder = RunFolder(run, "RUN")
    phases = [] if folder.exists else [(name, one.root, one.read_record()) for name, one in PhasesFolder(run).begun()]
    if is_json and phases:
        write_json(sys.stdout, {"phases": [{"phase": name, **_body(record)} for name, _, record in phases]})
    elif is_json:
        write_json(sys.stdout, _body(folder.read_record()))
    elif phases:
        click.echo("\n\n".join(f"phase    {name}\n{_text(record, root)}" for name, root, record in phases))
    else:
        click.echo(_text(folder.read_record(), run))


def _body(record: RunRecord) -> dict[str, object]:
    from autofit.domain.codec import encode
    from autofit.report.ratios import trials_body

    parts = ("request", "hardware", "choice", "result", "lost", "saved")
    body = {part: encode(getattr(record, part)) for part in parts}
    body["trials"] = trials_body(record.trials, record.choice, record.hardware)
    return {**body, "data": encode(record.profile), "launch": encode(record.kept)}


def _text(record: RunRecord, run: Path) -> str:
    from autofit.domain.event import Chosen
    from autofit.report.choice_text import choice_lines
    from autofit.report.data_text import data_lines
    from autofit.report.header import machine_text, request_text, task_text
    from autofit.report.ladder.ladder_table import table_lines
    from autofit.report.launch_text import launch_lines
    from autofit.report.line import labelled, plain
    from autofit.report.progress import ended_lines
    from autofit.report.ratios import choice_ratios_text
    from autofit.report.saved_text import saved_lines
    from autofit.report.view import View

    view = View(hardware=record.hardware, request=record.request, trials=record.trials, choice=record.choice)
    lines = labelled("machine", machine_text(record.hardware)) if record.hardware is not None else []
    task = task_text(record.request)
    lines += labelled("task", task) if task else []
    lines += labelled("model", record.request.model) + labelled("request", request_text(record.request, None))
    lines += data_lines(record.profile) if record.profile is not None else []
    lines += [(), *table_lines(view, width=_table_width()), ()]
    if record.choice is not None:
        decided_s = sum(trial.outcome.total_s for trial in record.trials)
        if record.kept is not None and record.kept.timeline is not None:
            decided_s = record.kept.timeline.chosen_s
        lines += choice_lines(view, Chosen.after(record.trials, record.choice, decided_s))
        ratios = choice_ratios_text(record.choice, record.hardware)
        lines += labelled("ratios", ratios) if ratios else []
    lines += launch_lines(record.kept) if record.kept is not None else []
    lines += saved_lines(record.saved)
    if record.result is not None:
        lines += ended_lines(record.result)
        for path in record.lost:
            lines += labelled("", f"{path} is gone: the command that began {run}, again, makes it anew")
    else:
        lines += labelled("next", f"the command that began {run}, again: it goes on from here")
    return plain(lines)


def _table_width() -> int:
    """The terminal's, or what COLUMNS says where there is none: a wide table has the ratios, too."""
    import shutil

    from autofit.report.line import WIDTH

    return min(max(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns), _WIDEST)

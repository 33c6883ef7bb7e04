"""The story of `autofit compare`: a model, its tasks, and for each the optimizations one at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autofit.app.comparison_probes import probe_comparison
from autofit.app.context import Context, Session, read_context
from autofit.app.estimation import assumed_setting
from autofit.app.model_download import downloading
from autofit.app.note_screen import NoteScreen
from autofit.app.plan import prepared, setting_notes
from autofit.app.tools import REAL_TOOLS, Tools
from autofit.domain.comparison import Comparison, TaskComparison
from autofit.domain.event import Tell
from autofit.domain.hardware import Hardware
from autofit.domain.model import ModelShape
from autofit.domain.request import Generation, Request
from autofit.domain.task import Task
from autofit.hardware.requirements import installed_here
from autofit.planning.plan.predicted_comparison import predict_comparison
from autofit.planning.space.ladder_builder import check_asked
from autofit.runs.run_folder import RunFolder


@dataclass(frozen=True)
class _Compared:
    """One task on one machine."""

    hardware: Hardware
    model: ModelShape
    rows: TaskComparison
    notes: tuple[str, ...] = ()


def predict(
    request: Request, tasks: Sequence[Task], on: tuple[str, ...], *, tell: Tell, tools: Tools = REAL_TOOLS
) -> tuple[Comparison, ...]:
    """What is predicted for each machine that `on` describes, in this order; nothing is run.

    UsageError for a machine, a model, a batch or a baseline that cannot be.
    """
    by_task = [_predicted(_for_task(request, task), on, tell, tools) for task in tasks]
    return tuple(_together(on_one_machine) for on_one_machine in zip(*by_task, strict=True))


def measure(
    request: Request,
    tasks: Sequence[Task],
    *,
    output_dir: Path,
    tell: Tell,
    heartbeat_timeout_s: float = 600.0,
    tools: Tools = REAL_TOOLS,
) -> Comparison:
    """What probes measure on the machine here; each task's trials and logs lie in a folder of its own in `output_dir`.

    UsageError for what cannot be trained here, and for a folder that is not to be used.
    """
    screen = NoteScreen(tell)
    sessions = [Session(RunFolder(output_dir / task.value), screen, tools) for task in tasks]
    asked = zip(tasks, sessions, strict=True)
    contexts = [_look(_for_task(request, task), session) for task, session in asked]  # before the first probe
    looked = zip(contexts, sessions, strict=True)
    return _together([_measured(context, session, heartbeat_timeout_s) for context, session in looked])


def _for_task(request: Request, task: Task) -> Request:
    generation = request.generation if task.traits.generates else Generation()
    return replace(request, task=task, generation=generation)


def _together(found: Sequence[_Compared]) -> Comparison:
    notes = dict.fromkeys(note for one in found for note in one.notes)
    return Comparison(found[0].hardware, found[0].model, tuple(one.rows for one in found), tuple(notes))


def _predicted(request: Request, on: tuple[str, ...], tell: Tell, tools: Tools) -> list[_Compared]:
    with prepared(request, on, tell=tell, tools=tools) as found:
        return [
            _Compared(
                setting.hardware,
                setting.shape,
                predict_comparison(setting),
                (*found.notes, *setting_notes(setting, is_described=True)),
            )
            for setting in found.settings
        ]


def _look(request: Request, session: Session) -> Context:
    session.folder.check()
    context = read_context(request, session)
    check_asked(assumed_setting(context, installed_here()))
    return context


def _measured(context: Context, session: Session, heartbeat_timeout_s: float) -> _Compared:
    folder = session.folder
    with folder.lock(session.tell):
        _begin(folder, session.tell)
        folder.write_request(context.request)
        folder.write_hardware(context.hardware)
        with downloading(context, session):
            context, rows = probe_comparison(context, session, heartbeat_timeout_s)
    return _Compared(context.hardware, context.shape, rows)


def _begin(folder: RunFolder, tell: Tell) -> None:
    """Sets an earlier comparison aside: all figures of one are of one day."""
    if folder.exists:
        folder.archive(lambda text: None)
        tell(f"the earlier comparison in {folder.root} was moved into its folder earlier/")
        folder.create()

"""The lines that an event leaves on any screen; nothing for what only a live table shows."""

from __future__ import annotations

from autofit.domain import event as ev
from autofit.domain.hardware import Hardware

from .choice_text import choice_lines, give_up_lines
from .data_text import data_lines
from .download import download_ended_text, download_started_text
from .header import machine_text, model_text, request_text, task_text
from .line import WIDTH, Line, Style, labelled
from .progress import ended_lines, started_text
from .view import View


def message_lines(view: View, event: ev.Event, *, width: int = WIDTH) -> list[Line]:
    """The lines that `event` leaves; `view` is the one after it."""
    match event:
        case ev.PhaseStarted():
            lines = labelled("phase", phase_text(event), width=width, style=Style.GOOD)
            return lines if event.number == 1 else [(), *lines]
        case ev.MachineSeen(hardware):
            lines = _machine_lines(hardware, width)
            is_told = view.told_hardware is not None and lines == _machine_lines(view.told_hardware, width)
            return [] if is_told else lines
        case ev.ModelRead(shape, scores):
            head = ", with a head that scores" if scores else ""
            return labelled("model", model_text(shape) + head, width=width)
        case ev.DataRead(request, profile):
            lines = labelled("task", task, width=width) if (task := task_text(request)) else []
            lines += _with_notes("request", request_text(request, profile), profile.notes, width)
            return lines + data_lines(profile, width=width)
        case ev.Chosen():
            return choice_lines(view, event, width=width)
        case ev.GaveUp(action):
            return give_up_lines(view, action, width=width)
        case ev.DownloadStarted():
            return labelled("weights", download_started_text(event), width=width)
        case ev.DownloadEnded():
            return labelled("weights", download_ended_text(event), width=width)
        case ev.TrainingStarted():
            return labelled("training", started_text(event), width=width)
        case ev.TrainingEnded():
            return ended_lines(event, view.choice.measured if view.choice else None, width=width)
        case ev.Note(text):
            return labelled("note", text, width=width, style=Style.QUIET)
    return []


def phase_text(begun: ev.PhaseStarted) -> str:
    """Which training begins: `2 of 3, reward · on the model of sft`."""
    phase = begun.phase
    parts = [f"{begun.number} of {begun.count}, {phase.name}"]
    parts += [] if phase.name == phase.request.task.value else [phase.request.task.traits.text]
    parts += [] if phase.starts_from is None else [f"on the model of {phase.starts_from}"]
    parts += [f"rewarded by {', '.join(phase.rewarded_by)}"] if phase.rewarded_by else []
    return " · ".join(parts)


def _machine_lines(hardware: Hardware, width: int) -> list[Line]:
    return _with_notes("machine", machine_text(hardware), hardware.notes, width)


def _with_notes(label: str, text: str, notes: tuple[str, ...], width: int) -> list[Line]:
    lines = labelled(label, text, width=width)
    return lines + [line for note in notes for line in labelled("", note, width=width, style=Style.QUIET)]

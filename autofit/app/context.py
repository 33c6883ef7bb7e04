"""What a command works with, and what its request is about before anything is tried: the machine and the model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from glob import has_magic
from pathlib import Path

from autofit.app.tools import Tools
from autofit.domain.event import MachineSeen, ModelRead, Note, Screen
from autofit.domain.hardware import Hardware
from autofit.domain.model import ModelShape
from autofit.domain.request import Request
from autofit.inputs.model_files import read_model_files
from autofit.report.html import report_html
from autofit.runs.run_folder import RunFolder


@dataclass(frozen=True)
class Session:
    """One command on one run folder."""

    folder: RunFolder
    screen: Screen
    tools: Tools

    def tell(self, text: str) -> None:
        self.screen.show(Note(text))

    def write_report(self) -> None:
        """Writes the report of everything that the folder holds by now."""
        self.folder.write_report(report_html(self.folder.read_record()))


@dataclass(frozen=True)
class Context:
    request: Request
    hardware: Hardware
    shape: ModelShape


def read_context(request: Request, session: Session) -> Context:
    """The machine and the model; UsageError when one of them cannot be what was asked for."""
    hardware = session.tools.detect_for(session.folder.root, request)
    session.screen.show(MachineSeen(hardware))
    model = read_model_files(request.model)
    session.screen.show(ModelRead(model.shape))
    for note in model.notes:
        session.tell(note)
    return Context(_located(replace(request, model=model.path_or_id)), hardware, model.shape)


def _located(request: Request) -> Request:
    """The request with its local paths absolute, so that it means the same from every folder."""
    resume = request.training.resume
    return replace(
        request,
        model=absolute(request.model),
        data=request.data and absolute(request.data),
        eval_data=request.eval_data and absolute(request.eval_data),
        training=replace(request.training, resume=resume and absolute(resume)),
    )


def absolute(name: str) -> str:
    """The absolute form of a path or a glob; a hub id stays as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() or has_magic(name) else name

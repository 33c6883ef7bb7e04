"""What a command works with, and what its request is about before anything is tried: the machine and the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from glob import has_magic
from pathlib import Path

from autofit.app.stored_model import as_stored
from autofit.app.tools import Tools
from autofit.app.tracing import TraceProvider
from autofit.domain.errors import UsageError
from autofit.domain.event import MachineSeen, ModelRead, Note, Screen
from autofit.domain.hardware import Hardware
from autofit.domain.knobs.method import METHOD, Method
from autofit.domain.model import ModelFacts, ModelShape
from autofit.domain.request import Request, Reward
from autofit.hardware.requirements import installed_here
from autofit.inputs.download import Download
from autofit.inputs.found_model import ModelFiles
from autofit.inputs.model_config import described_shape
from autofit.inputs.model_files import read_model_files
from autofit.inputs.scoring_head import check_trainable
from autofit.planning.data.positions import check_positions
from autofit.planning.parameters import USUAL_TARGETS
from autofit.planning.setting import Setting
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
    facts: ModelFacts | None = None  # None: the model's class was not asked yet
    download: Download | None = None  # None: the model is whole here
    reward_models: tuple[ModelFiles, ...] = ()
    setting: Setting | None = None  # of its estimates; None: the data was not read yet


def read_context(request: Request, session: Session) -> Context:
    """The machine, and the model at first sight; UsageError when one of them cannot be what was asked for."""
    hardware = session.tools.detect_for(session.folder.root, request)
    session.screen.show(MachineSeen(hardware))
    model = read_model_files(request.model)
    check_trainable(model, request.task)
    request = as_stored(_located(replace(request, model=model.path_or_id)), model.stored, installed_here())
    shape = model.shape or _described_alone(request, session)
    session.screen.show(ModelRead(shape))
    for note in model.notes:
        session.tell(note)
    return Context(request, hardware, shape, download=model.download, reward_models=_reward_models(request))


def _reward_models(request: Request) -> tuple[ModelFiles, ...]:
    """The models that reward; UsageError for one that is not there."""
    return tuple(read_model_files(reward.source) for reward in request.generation.rewards if not reward.is_function)


def described(context: Context, tracing: TraceProvider, session: Session) -> Context:
    """The context with what the model's class says of it; UsageError when it cannot be trained as asked for."""
    facts = tracing.facts()
    if facts is None:
        return context
    shape = described_shape(context.request.model, facts)
    if shape.parameter_count != context.shape.parameter_count or not context.shape.is_counted_exactly:
        session.screen.show(ModelRead(shape, scores=context.request.task.traits.scores))
    context = replace(context, shape=shape, facts=facts)
    for note in model_notes(context):
        session.tell(note)
    return context


def model_notes(context: Context) -> Iterator[str]:
    """What people are told of a model once it is described; UsageError for rows longer than its positions."""
    request, facts = context.request, context.facts
    if facts is None:
        return
    yield from check_positions(request.sequence_length, context.shape, facts.positions, context.hardware.kind)
    if facts.lora_targets not in ((), USUAL_TARGETS) and request.pins.of(METHOD) is not Method.FULL:
        yield f"LoRA adapts {', '.join(sorted({end.rsplit('.', 1)[-1] for end in facts.lora_targets}))}."


def _described_alone(request: Request, session: Session) -> ModelShape:
    """The shape by what the model's class says, where config.json leaves sizes to it."""
    tools = session.tools
    with tools.open_store() as store, TraceProvider(request, store, tools.start_tracer, session.tell) as tracing:
        return shape_of(request.model, tracing.facts(), None)


def shape_of(name: str, facts: ModelFacts | None, seen: ModelShape | None) -> ModelShape:
    """The shape by what the model's class says, else what was seen of it; UsageError when there is neither."""
    if facts is not None:
        return described_shape(name, facts)
    if seen is None:
        raise UsageError(f"The config.json of {name} leaves sizes to the model's class, which could not be asked.")
    return seen


def _located(request: Request) -> Request:
    """The request with its local paths absolute, so that it means the same from every folder."""
    resume = request.training.resume
    return replace(
        request,
        model=absolute(request.model),
        data=request.data and absolute(request.data),
        eval_data=request.eval_data and absolute(request.eval_data),
        generation=replace(request.generation, rewards=tuple(map(_located_reward, request.generation.rewards))),
        training=replace(request.training, resume=resume and absolute(resume)),
    )


def _located_reward(reward: Reward) -> Reward:
    """A model's folder and a function's file are made absolute; a module is looked for where the command is given."""
    if not reward.is_function:
        return replace(reward, source=absolute(reward.source))
    place, _, name = reward.source.rpartition(":")
    return replace(reward, source=f"{absolute(place)}:{name}") if place.endswith(".py") else reward


def absolute(name: str) -> str:
    """The absolute form of a path or a glob; a hub id stays as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() or has_magic(name) else name

"""How a full run that lacks memory goes on: by the nearest strategy that needs less, from its last whole checkpoint."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from autofit.app.choice_files import write_choice_files
from autofit.app.context import Context, Session
from autofit.app.full_training import LackedMemory
from autofit.app.known_setting import with_known_setting
from autofit.app.resume import next_start
from autofit.domain.checkpoint import Checkpoint
from autofit.domain.errors import TrainingFailed
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.pins import Pins
from autofit.domain.outcome import Measured, OutOfMemory, Place
from autofit.domain.request import SearchOptions
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Choice, StepDown
from autofit.inputs.training_checkpoint import read_checkpoint
from autofit.planning.plan.step_down import Lighter, NothingLighter, step_down
from autofit.planning.setting import Setting
from autofit.report.run_end_text import lack_text, run_failure_text, step_down_text
from autofit.runs.run_folder import RunFolder


def go_down(
    choice: Choice, lacked: LackedMemory, context: Context, session: Session, options: SearchOptions
) -> tuple[Context, Choice]:
    """The choice to go on with, which is written down and told, and the context with its setting; TrainingFailed where
    nobody wants one, or none is left, with the words that start anew."""
    folder = session.folder
    if not options.may_step_down:
        raise TrainingFailed(run_failure_text(lacked.end, folder.training_log))
    context = with_known_setting(context, session)
    setting = _as_asked(context, folder)
    checkpoint = _checkpoint(context, folder)
    tried = _too_large(choice, folder)
    found = step_down(choice.strategy, lacked.end, setting, checkpoint, tried)
    if isinstance(found, NothingLighter):
        # A smaller micro-batch, and what else leaves room on a device, has been looked for.
        text = lack_text if lacked.end.place is Place.DEVICE else run_failure_text
        words = _anew_words(choice.strategy, lacked.end, setting, tried, folder)
        raise TrainingFailed(f"{text(lacked.end, folder.training_log)}\n{found.why}", words)
    choice = _lower(choice, found, step_down_text(lacked.end, lacked.step), folder)
    write_choice_files(choice, context, session)
    session.write_report()
    where = "from the beginning" if checkpoint is None else f"from step {checkpoint.step:,}"
    session.tell(f"{choice.step_downs[-1].why}: it goes on {where} with {found.change} ({choice.strategy})")
    return context, choice


def _lower(choice: Choice, found: Lighter, what: str, folder: RunFolder) -> Choice:
    """The choice with a lighter strategy in the place of the one that ran."""
    return replace(
        choice,
        strategy=found.strategy,
        measured=_measured(found.strategy, folder),
        why=f"{what}; {found.change}",
        is_remembered=False,
        step_downs=(*choice.step_downs, StepDown(choice.strategy, what)),
    )


def _measured(strategy: Strategy, folder: RunFolder) -> Measured | None:
    """What the search has measured of a strategy; None where it was not probed."""
    whole = (trial for trial in folder.read_trials() if trial.strategy == strategy and not trial.is_rehearsal)
    return next((trial.outcome for trial in whole if isinstance(trial.outcome, Measured)), None)


def _too_large(choice: Choice, folder: RunFolder) -> frozenset[Strategy]:
    """What ran out of memory before, in the full run and in the search."""
    ran = {one.strategy for one in choice.step_downs}
    return frozenset(ran | {one.strategy for one in folder.read_trials() if isinstance(one.outcome, OutOfMemory)})


def _as_asked(context: Context, folder: RunFolder) -> Setting:
    """The setting with the user's own pins: a checkpoint that was named has narrowed the others."""
    asked = folder.read_request()
    assert asked is not None
    assert context.setting is not None
    return replace(context.setting, request=replace(context.setting.request, pins=asked.pins))


def _checkpoint(context: Context, folder: RunFolder) -> Checkpoint | None:
    """The checkpoint that the ranks will go on from."""
    place = next_start(context.request, folder)
    return None if place is None else read_checkpoint(place)


def _anew_words(
    failed: Strategy, end: OutOfMemory, setting: Setting, tried: Collection[Strategy], folder: RunFolder
) -> tuple[str, ...]:
    """The words with which the same command starts anew in another folder, by what would need less if nothing were
    pinned and no checkpoint bound it; else by adapters, or by shorter rows. None where /dev/shm is what is short."""
    if end.place is Place.SHARED:
        return ()
    free = replace(setting, request=replace(setting.request, pins=Pins()))
    found = step_down(failed, end, free, None, tried)
    if isinstance(found, Lighter):
        changes = tuple(_pinning(failed, found.strategy))
    elif failed.rung.method is Method.FULL:
        changes = ("--method", Method.LORA.value)
    else:
        changes = ("--seq", str(setting.request.sequence_length // 2))
    return ("--output-dir", str(_free_name(folder.root)), *changes)


def _free_name(root: Path) -> Path:
    """A folder beside this one that is not there yet: `run-2`."""
    number = 2
    while (place := root.with_name(f"{root.name}-{number}")).exists():
        number += 1
    return place


def _pinning(failed: Strategy, lighter: Strategy) -> Iterator[str]:
    """The flags that pin what differs."""
    if lighter.micro_batch != failed.micro_batch:
        yield from ("--micro-batch", str(lighter.micro_batch))
    for knob, value in lighter.rung.values():
        if knob.flag is not None and getattr(failed.rung, knob.name) != value.value:
            yield from (knob.flag.name, value.word)

"""What a run folder and a checkpoint allow: looked at before anything is tried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from autofit.app.context import Context
from autofit.domain.checkpoint import Checkpoint
from autofit.domain.errors import UsageError
from autofit.domain.event import Tell
from autofit.domain.hardware import Hardware
from autofit.domain.request import Request
from autofit.inputs.data_files import data_digest
from autofit.inputs.pickled_names import check_checkpoint
from autofit.inputs.training_checkpoint import read_checkpoint
from autofit.planning.space.resumption import (
    can_resume,
    checkpoint_text,
    conflicts,
    kept_lora,
    narrow_to_checkpoint,
    weights_text,
)
from autofit.runs.request_diff import FLAGS, differences
from autofit.runs.run_folder import RunFolder

# What the files of a checkpoint do not tell, and its run folder does.
_OF_ITS_RUN = ("model", "data", "eval_fraction", "training.extra_arguments")
_SCHEDULE = ("training.epochs", "training.max_steps")


@dataclass(frozen=True)
class StartingPoint:
    """Where a run starts: `request` is what may be searched; `checkpoint` is None where the run folder's own last one
    counts, if any. `is_moved`: it is the last one of the run folder, whose search was for another machine."""

    request: Request
    checkpoint: Checkpoint | None = None
    is_moved: bool = False


def find_start(request: Request, folder: RunFolder) -> StartingPoint:
    """Finds where a run starts; UsageError, with the offer to start from the weights, for a checkpoint that cannot go
    on with what is asked, or that would run more than its tensors need."""
    named = request.training.resume
    if named is None:
        return StartingPoint(request)
    if _goes_on(folder, named):
        hardware, earlier = folder.read_hardware(), folder.read_request()
        assert earlier is not None
        request = replace(request, lora=kept_lora(request.lora, earlier.lora))
        return StartingPoint(request if hardware is None else replace(request, ranks=_asked_ranks(request, hardware)))
    checkpoint = read_checkpoint(named)
    check_checkpoint(Path(checkpoint.path))
    _refuse(conflicts(request, checkpoint), request, checkpoint)
    return StartingPoint(narrow_to_checkpoint(request, checkpoint), checkpoint)


def _asked_ranks(request: Request, hardware: Hardware) -> int:
    """The ranks that are asked for, else those that the run here was begun with."""
    return request.ranks or hardware.rank_count


def next_start(request: Request, folder: RunFolder) -> str | None:
    """The checkpoint that the ranks go on from next: the last whole one of their run folder; before it has one, that
    which the user named; None where they begin."""
    return folder.last_checkpoint or request.training.resume


def follow_machine(start: StartingPoint, context: Context, folder: RunFolder) -> tuple[StartingPoint, Context]:
    """The start and the context of a run in the folder that has come to a checkpoint, on another machine than it was
    begun on, or before it has chosen there: the search is within what the checkpoint can go on with.

    Unchanged where there is nothing to follow, or where the checkpoint cannot be loaded by as many ranks.
    """
    last, machine = folder.last_checkpoint, folder.read_hardware()
    if last is None or machine is None or start.checkpoint is not None or folder.read_result() is not None:
        return start, context
    is_moved = not machine.is_same_machine(context.hardware) or machine.rank_count != context.hardware.rank_count
    if not is_moved and folder.read_choice() is not None:
        return start, context
    checkpoint, request = read_checkpoint(last), replace(context.request, ranks=context.hardware.rank_count)
    if machine.kind is not context.hardware.kind or conflicts(request, checkpoint):
        return start, context
    request = narrow_to_checkpoint(request, checkpoint)
    return StartingPoint(request, checkpoint, is_moved), replace(context, request=request)


def check_rows(request: Request, start: StartingPoint) -> tuple[str, ...]:
    """What people are told of the checkpoint; UsageError, as `find_start`, when its run was about other rows.

    `request` has its model and its paths found.
    """
    checkpoint = start.checkpoint
    if checkpoint is None:
        return ()
    if start.is_moved:
        return (checkpoint_text(start.request, checkpoint),)
    origin = _origin(checkpoint)
    if origin is None:
        unknown = "the model, the data and what stands after -- are those of its training"
        unchecked = f"it lies in no run folder: whether {unknown} cannot be checked"
        return (checkpoint_text(start.request, checkpoint), unchecked)
    _refuse(tuple(_of_its_run(request, origin)), request, checkpoint)
    return (checkpoint_text(start.request, checkpoint), *_notes(request, origin))


def _refuse(wrong: tuple[str, ...], request: Request, checkpoint: Checkpoint) -> None:
    if wrong:
        raise UsageError(
            f"--resume {checkpoint.path} cannot go on with what is asked for: its training had {', '.join(wrong)}. Ask "
            f"for the same, or start from its weights: {weights_text(request, checkpoint)}."
        )


def claim(context: Context, asked: Request, start: StartingPoint, folder: RunFolder, tell: Tell) -> Context:
    """Makes the folder this request's own; a run that goes on keeps the machine's figures that it was begun with.

    `asked` is the request before a checkpoint narrowed it. `tell` hears what is moved.
    """
    own_lora = asked.lora if asked.training.resume is None else context.request.lora
    request = replace(context.request, pins=asked.pins, ranks=asked.ranks, lora=own_lora)
    changes, machine = [*_changes(request, context, folder, start), *_unloadable(start, folder)], folder.read_hardware()
    if changes and folder.has_training:
        raise UsageError(
            f"{folder.root} holds another training ({'; '.join(changes)}). "
            "Repeat that one, or name another folder with --output-dir."
        )
    if changes:
        folder.archive(tell)  # a search alone is kept, and this request begins its own
    elif start.is_moved:
        folder.archive_search(tell)
    elif machine is not None:
        context = replace(context, hardware=machine)
    if start.checkpoint is not None and folder.read_result() is None:
        folder.set_checkpoints_aside(start.checkpoint.path, tell)
    folder.write_request(request)
    folder.write_hardware(context.hardware)
    folder.write_data_digest(data_digest(request.data))
    return context


def _changes(request: Request, context: Context, folder: RunFolder, start: StartingPoint) -> list[str]:
    """What the run here was begun with that differs from the request and the machine now; not the machine that it goes
    on from."""
    earlier, machine = folder.read_request(), folder.read_hardware()
    among = set(FLAGS) - ({"ranks"} if start.is_moved else set())
    changes = list(differences(earlier, request, among)) if earlier is not None else []
    if earlier is not None and earlier.data == request.data and _is_same_data(request, folder) is False:
        changes.append(f"other rows in {request.data}")
    if machine is not None and not start.is_moved and not machine.is_same_machine(context.hardware):
        changes.append(f"{machine.summary} there, {context.hardware.summary} here")
    return changes


def _unloadable(start: StartingPoint, folder: RunFolder) -> Iterator[str]:
    """What was chosen here before, when the checkpoint cannot go on with it."""
    choice = folder.read_choice()
    if start.checkpoint is not None and choice is not None and not can_resume(choice.strategy.rung, start.checkpoint):
        yield f"{choice.strategy} was chosen there, which cannot load {start.checkpoint.path}"


def _goes_on(folder: RunFolder, named: str) -> bool:
    """Whether the run here began with this checkpoint, and has come to one of its own."""
    earlier = folder.read_request()
    begun_with = None if earlier is None else earlier.training.resume
    return begun_with == str(Path(named).expanduser().resolve()) and folder.last_checkpoint is not None


def _origin(checkpoint: Checkpoint) -> RunFolder | None:
    """The run folder in which a checkpoint lies."""
    path = Path(checkpoint.path)
    folder = RunFolder(path.parents[1]) if len(path.parents) > 1 else None
    return folder if folder is not None and folder.checkpoints == path.parent and folder.exists else None


def _of_its_run(request: Request, origin: RunFolder) -> Iterator[str]:
    was, is_same_data = origin.read_request(), _is_same_data(request, origin)
    assert was is not None
    yield from differences(was, request, [name for name in _OF_ITS_RUN if not (name == "data" and is_same_data)])
    if was.data == request.data and is_same_data is False:
        yield f"other rows in {request.data}"


def _is_same_data(request: Request, origin: RunFolder) -> bool | None:
    """Whether the data is the same by what is in it; None where that is not known."""
    was, now = origin.read_data_digest(), data_digest(request.data)
    return None if was is None or now is None else was == now


def _notes(request: Request, origin: RunFolder) -> Iterator[str]:
    was = origin.read_request()
    assert was is not None
    if request.data is not None and _is_same_data(request, origin) is None:
        yield f"whether {request.data} holds the same rows as in its training cannot be checked"
    for change in differences(was, request, _SCHEDULE):
        yield f"{change}: the learning rate follows the schedule of the new length from here on"

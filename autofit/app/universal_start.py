"""A checkpoint of another number of ranks, made one that the ranks here can go on from."""

from __future__ import annotations

from pathlib import Path

from autofit.app.context import Context, Session
from autofit.domain.errors import TrainingFailed
from autofit.domain.script import LoadedCheckpoint
from autofit.inputs.script_checkpoint import read_checkpoint
from autofit.process import universal_checkpoint
from autofit.running.deepspeed_tools import check_room


def make_loadable(context: Context, session: Session) -> None:
    """Makes the checkpoint that the training goes on from universal, where ZeRO has divided it among another number of
    ranks; what was made of an earlier one goes.

    UsageError where the disk has no room for it, TrainingFailed where DeepSpeed's tool cannot do it.
    """
    folder = session.folder
    start = folder.last_checkpoint or context.request.training.resume
    divided = None if start is None else read_checkpoint(start)
    if start is None or divided is None or divided.rank_count in (None, context.hardware.rank_count):
        universal_checkpoint.drop(folder.checkpoints)
    elif universal_checkpoint.found(folder.checkpoints, Path(start)) is None:
        _make(divided, Path(start), context, session)


def _make(divided: LoadedCheckpoint, source: Path, context: Context, session: Session) -> None:
    folder = session.folder
    check_room(divided, folder.checkpoints)
    session.tell(
        f"{source} is divided among {divided.rank_count} ranks: it is made universal, for {context.hardware.rank_count}"
    )
    begun = universal_checkpoint.begin(folder.checkpoints, source)
    if not session.tools.make_universal(divided, log_path=folder.training_log, place=begun, tell=session.tell):
        universal_checkpoint.drop(folder.checkpoints)
        raise TrainingFailed(
            f"{source} could not be made universal; the log is {folder.training_log}. On {divided.rank_count} ranks it "
            "can be gone on from as it is."
        )
    universal_checkpoint.finish(begun, source)

"""A checkpoint of another number of ranks, made one that the ranks here can go on from."""

from __future__ import annotations

from pathlib import Path

from autofit.app.context import Context, Session
from autofit.app.resume import next_start
from autofit.domain.errors import TrainingFailed, UsageError
from autofit.domain.script import LoadedCheckpoint
from autofit.domain.units import format_bytes
from autofit.hardware.host import disk_free_bytes
from autofit.inputs.script_checkpoint import divided_otherwise
from autofit.process import universal_checkpoint


def make_loadable(context: Context, session: Session) -> None:
    """Makes the checkpoint that the training goes on from universal, where ZeRO has divided it among another number of
    ranks; what was made of an earlier one goes.

    UsageError where the disk has no room for it, TrainingFailed where DeepSpeed's tool cannot do it.
    """
    folder = session.folder
    start = next_start(context.request, folder)
    divided = None if start is None else divided_otherwise(start, context.hardware.rank_count)
    if start is None or divided is None:
        universal_checkpoint.drop(folder.checkpoints)
    elif universal_checkpoint.found(folder.checkpoints, Path(start)) is None:
        _make(divided, Path(start), context, session)


def _make(divided: LoadedCheckpoint, source: Path, context: Context, session: Session) -> None:
    folder = session.folder
    _check_room(divided, folder.checkpoints)
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


def _check_room(checkpoint: LoadedCheckpoint, place: Path) -> None:
    """Checks that `place` has room for a checkpoint's universal form; UsageError says how much is missing.

    DeepSpeed 0.19.8 writes every share in pieces, then the pieces as one (`ds_to_universal.py`): twice what there is.
    """
    needed_bytes = 2 * sum(path.stat().st_size for path in Path(checkpoint.path).rglob("*") if path.is_file())
    free_bytes = disk_free_bytes(place)
    if free_bytes < needed_bytes:
        raise UsageError(
            f"{checkpoint.path} is to be made universal for another number of ranks, which takes "
            f"{format_bytes(needed_bytes)} in {place}, where {format_bytes(free_bytes)} are free: make room there, or "
            f"go on with --ranks {checkpoint.rank_count}."
        )

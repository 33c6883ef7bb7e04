"""Whether the disk of the run folder has the room for what a training writes there."""

from __future__ import annotations

from pathlib import Path

from autofit.app.context import Context, Session
from autofit.app.estimation import assumed_setting, usable_rungs
from autofit.domain.errors import UsageError
from autofit.domain.units import format_bytes
from autofit.hardware.requirements import installed_here
from autofit.planning.plan.checkpoint_size import WrittenSize, written_size

_TOKENIZERS = "tokenizer*"


def check_disk(context: Context, session: Session) -> None:
    """UsageError where no rung of the request has room for one checkpoint and the model; a note where some rung has
    none for as many as would lie there. In a folder with checkpoints they give room for the next ones."""
    folder = session.folder
    if folder.has_training:
        return
    setting = assumed_setting(context, installed_here())
    tokenizer_bytes = sum(path.stat().st_size for path in Path(context.request.model).glob(_TOKENIZERS))
    sizes = [written_size(rung, setting, tokenizer_bytes) for rung in usable_rungs(setting)]
    if not sizes:
        return
    free_bytes = context.hardware.nodes[0].host.disk_free_bytes
    least = min(sizes, key=lambda size: size.least_bytes)
    most = max(sizes, key=lambda size: size.most_bytes)
    if least.least_bytes > free_bytes:
        raise UsageError(_refusal(least, folder.root, free_bytes))
    if most.most_bytes > free_bytes:
        session.tell(_note(most, folder.root, free_bytes))


def _refusal(size: WrittenSize, root: Path, free_bytes: int) -> str:
    needed, free = format_bytes(size.least_bytes), format_bytes(free_bytes)
    parts = f"the model {format_bytes(size.model_bytes)}"
    if size.checkpoint_bytes:
        parts = f"a checkpoint {format_bytes(size.checkpoint_bytes)}, {parts}"
    return (
        f"the training would write {needed} at least into {root} ({parts}), where {free} are free: free some there, or "
        "name a folder on a larger disk with --output-dir."
    )


def _note(size: WrittenSize, root: Path, free_bytes: int) -> str:
    checkpoint, model, free = map(format_bytes, (size.checkpoint_bytes, size.model_bytes, free_bytes))
    return (
        f"up to {size.most_count} checkpoints of {checkpoint} and a model of {model} may lie in {root} at once, by "
        f"what is chosen, and {free} are free there: where the disk gets full, older checkpoints go first"
    )

"""DeepSpeed's own tools, asked in a process of their own: a job's layout, a checkpoint made universal."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from tempfile import TemporaryFile

from autofit.domain.codec import decode
from autofit.domain.deepspeed_line import LaunchLine, Layout
from autofit.domain.errors import UsageError
from autofit.domain.event import Tell
from autofit.domain.script import LoadedCheckpoint
from autofit.domain.units import format_bytes, format_seconds
from autofit.process.child import Child, run_to_end
from autofit.process.python import module_command

_LOOK_S = 20.0  # how often is looked whether it goes on


def resolve_layout(line: LaunchLine) -> Layout | None:
    """The layout of a line, None where DeepSpeed would refuse it, and say why. Takes seconds: it asks DeepSpeed, in its
    own process."""
    with TemporaryFile() as answer, TemporaryFile() as complaints:
        command = [*module_command("autofit.worker.deepspeed.job_layout"), *line.words]
        if run_to_end(command, answer, errors=complaints) != 0:
            return None
        answer.seek(0)
        return decode(Layout, json.loads(answer.read().splitlines()[-1]))


def make_universal(
    checkpoint: LoadedCheckpoint, *, log_path: Path, place: Path | None = None, tell: Tell = lambda text: None
) -> bool:
    """Makes a checkpoint universal; says whether `…_universal` now lies in `place`, or beside it, with
    `latest_universal` naming it; the log says why not. `tell` hears that it goes on."""
    divided = Path(checkpoint.path)
    output = (place or divided.parent) / f"{divided.name}_universal"
    words = ["--input_folder", str(divided), "--output_folder", str(output), "--inject_missing_state"]
    began_at_s, told_at_s = time.monotonic(), 0.0
    with log_path.open("ab") as log:
        child = Child([*module_command("deepspeed.checkpoint.ds_to_universal"), *words], log)
        try:
            while not child.has_ended(_LOOK_S):
                passed_s = time.monotonic() - began_at_s
                if passed_s > 2 * told_at_s:
                    tell(f"{divided.parent} is made universal: {format_seconds(passed_s)} so far")
                    told_at_s = passed_s
        finally:
            exit_code = child.kill()
    return exit_code == 0


def check_room(checkpoint: LoadedCheckpoint, place: Path) -> None:
    """Checks that `place` has room for a checkpoint's universal form; UsageError says how much is missing.

    DeepSpeed 0.19.8 writes every share in pieces, then the pieces as one (`ds_to_universal.py`): twice what there is.
    """
    needed_bytes = 2 * sum(path.stat().st_size for path in Path(checkpoint.path).rglob("*") if path.is_file())
    free_bytes = shutil.disk_usage(place).free
    if free_bytes < needed_bytes:
        raise UsageError(
            f"{checkpoint.path} is to be made universal for another number of ranks, which takes "
            f"{format_bytes(needed_bytes)} in {place}, where {format_bytes(free_bytes)} are free: make room there, or "
            f"go on with --ranks {checkpoint.rank_count}."
        )

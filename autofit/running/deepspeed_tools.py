"""DeepSpeed's own tools, asked in a process of their own: a job's layout, a checkpoint made universal."""

from __future__ import annotations

import json
import time
from pathlib import Path
from tempfile import TemporaryFile

from autofit.domain.codec import decode
from autofit.domain.deepspeed_line import LaunchLine, Layout
from autofit.domain.event import Tell
from autofit.domain.script import LoadedCheckpoint
from autofit.domain.units import format_seconds
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

"""DeepSpeed's own tools, asked in a process of their own: a job's layout, a checkpoint made universal."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from tempfile import TemporaryFile

from autofit.domain.codec import decode
from autofit.domain.deepspeed_line import LaunchLine, Layout
from autofit.domain.script import LoadedCheckpoint
from autofit.process.child import run_to_end
from autofit.process.python import module_command


def resolve_layout(line: LaunchLine) -> Layout | None:
    """The layout of a line, None where DeepSpeed would refuse it, and say why. Takes seconds: it asks DeepSpeed, in its
    own process."""
    with TemporaryFile() as answer, TemporaryFile() as complaints:
        command = [*module_command("autofit.worker.deepspeed.job_layout"), *line.words]
        if run_to_end(command, answer, errors=complaints) != 0:
            return None
        answer.seek(0)
        return decode(Layout, json.loads(answer.read().splitlines()[-1]))


def make_universal(checkpoint: LoadedCheckpoint, *, log_path: Path) -> bool:
    """Makes a checkpoint universal; says whether `…_universal` now lies beside it, with `latest_universal` naming it;
    the log says why not."""
    words = ["--input_folder", checkpoint.path, "--output_folder", f"{checkpoint.path}_universal"]
    with log_path.open("ab") as log:
        ended = subprocess.run(
            [*module_command("deepspeed.checkpoint.ds_to_universal"), *words, "--inject_missing_state"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
        )
    return ended.returncode == 0

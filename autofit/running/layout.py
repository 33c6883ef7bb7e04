"""The layout of a job, as DeepSpeed's launcher works it out."""

from __future__ import annotations

import json
from tempfile import TemporaryFile

from autofit.domain.codec import decode
from autofit.domain.launch import LaunchLine, Layout
from autofit.probing.child import run_to_end
from autofit.probing.python import module_command


def resolve_layout(line: LaunchLine) -> Layout | None:
    """None where DeepSpeed would refuse the line, and say why. Takes seconds: it asks DeepSpeed, in its own process."""
    with TemporaryFile() as answer, TemporaryFile() as complaints:
        command = [*module_command("autofit.worker.layout"), *line.words]
        if run_to_end(command, answer, errors=complaints) != 0:
            return None
        answer.seek(0)
        return decode(Layout, json.loads(answer.read().splitlines()[-1]))

"""The layout of a job, as DeepSpeed's launcher works it out."""

from __future__ import annotations

import json
import subprocess

from autofit.domain.codec import decode
from autofit.domain.launch import LaunchLine, Layout
from autofit.probing.python import module_command


def resolve_layout(line: LaunchLine) -> Layout | None:
    """None where DeepSpeed would refuse the line, and say why. Takes seconds: it asks DeepSpeed, in its own process."""
    ended = subprocess.run(
        [*module_command("autofit.worker.layout"), *line.words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    if ended.returncode != 0:
        return None
    return decode(Layout, json.loads(ended.stdout.splitlines()[-1]))

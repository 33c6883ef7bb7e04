"""A checkpoint of DeepSpeed's made universal beside itself, by DeepSpeed's own tool."""

from __future__ import annotations

import subprocess
from pathlib import Path

from autofit.domain.script import Checkpoint
from autofit.probing.python import module_command


def make_universal(checkpoint: Checkpoint, *, log_path: Path) -> bool:
    """Whether `…_universal` now lies beside it, with `latest_universal` naming it; the log says why not."""
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

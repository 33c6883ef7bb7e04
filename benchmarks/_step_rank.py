"""A rank of any training of transformers' Trainer that writes down, at the end, when each of its steps ended.

DeepSpeed's launcher starts it as a module; the module that trains and the folder for the figures are in its
environment, so that it gets the training's own arguments.
"""

from __future__ import annotations

import json
import os
import resource
import runpy
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, trainer

MODULE, FOLDER = "STEP_RANK_MODULE", "STEP_RANK_FOLDER"


class _StepEnds(TrainerCallback):
    """Keeps the wall clock, the CPU time of this process, and its page faults at the end of each step."""

    def __init__(self) -> None:
        self._ends: list[tuple[float, float, int]] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        self._ends.append((time.perf_counter(), used.ru_utime + used.ru_stime, used.ru_minflt))

    def on_train_end(self, *_: Any, **__: Any) -> None:
        peak_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        told = {"ends": self._ends, "peak_bytes": peak_bytes}
        Path(os.environ[FOLDER], f"steps{os.environ['RANK']}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    trainer.DEFAULT_CALLBACKS.append(_StepEnds)
    runpy.run_module(os.environ[MODULE], run_name="__main__", alter_sys=True)

"""Faults of a real full run: on the PYTHONPATH of a command, it has ranks raise what torch raises on a full device.

`FAULTS` names them, such as `1:4 0:6`: on rank 1 in step 4, then on rank 0 in step 6; each happens once, and leaves a
file of its name in the folder `FAULT_MARKS`.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

_TRAINER, _FULL_RUN = "transformers.trainer", "autofit.worker.training.full_run.rank_training"


class _Finder(importlib.abc.MetaPathFinder):
    """Finds transformers' trainer, once, and puts the faults into it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _TRAINER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def load_and_break(module: ModuleType) -> None:
            load(module)
            _break(module)

        spec.loader.exec_module = load_and_break  # type: ignore[method-assign]
        return spec


def _break(module: ModuleType) -> None:
    step = module.Trainer.training_step

    def failing(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        name = f"{os.environ.get('RANK')}:{trainer.state.global_step + 1}"
        mark = Path(os.environ["FAULT_MARKS"], name)
        if _FULL_RUN in sys.modules and name in os.environ["FAULTS"].split() and not mark.exists():
            import torch

            mark.touch()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return step(trainer, *args, **kwargs)

    module.Trainer.training_step = failing


if "FAULTS" in os.environ:
    sys.meta_path.insert(0, _Finder())

"""What a script would load: a probe looks at it, and gives the script no more than what it saved beside the weights."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import accelerate
import deepspeed
import torch
import transformers
from accelerate.utils import MODEL_NAME
from transformers.trainer_utils import get_last_checkpoint

from autofit.domain.script import LoadedCheckpoint
from autofit.inputs.script_checkpoint import read_checkpoint, to_make_universal
from autofit.planning.export.deepspeed_config import offload_in

See = Callable[[str, LoadedCheckpoint | None], None]
_WEIGHTS = {"module", "optimizer"}


def load_nothing(see: See) -> None:
    """Patches this process, before the script runs. `see` is told each folder that is to be loaded from, and what
    lies there."""
    deepspeed.DeepSpeedEngine.load_checkpoint = _engine_load(see)
    accelerate.Accelerator.load_state = _state_load(see)
    transformers.Trainer.train = _from_the_start(transformers.Trainer.train, see)


def _engine_load(see: See) -> Callable[..., tuple[str | None, dict[str, Any] | None]]:
    def load_checkpoint(
        self: deepspeed.DeepSpeedEngine, load_dir: Any, tag: Any = None, *_: Any, **__: Any
    ) -> tuple[str | None, dict[str, Any] | None]:
        folder = os.path.abspath(load_dir)
        found, state = _look_at(folder, tag, is_universal=self.load_universal_checkpoint())
        see(folder, found)
        if found is None:
            return None, None  # as DeepSpeed does
        return found.path, {name: value for name, value in state.items() if name not in _WEIGHTS}

    return load_checkpoint


def _state_load(see: See) -> Callable[..., None]:
    def load_state(self: accelerate.Accelerator, input_dir: Any = None, *_: Any, **__: Any) -> None:
        if input_dir is not None:
            folder = os.path.abspath(input_dir)
            see(folder, _look_at(folder, MODEL_NAME)[0])

    return load_state


def _from_the_start(train: Callable[..., Any], see: See) -> Callable[..., Any]:
    @functools.wraps(train)
    def from_the_start(
        self: transformers.Trainer, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        place = resume_from_checkpoint
        if place is True:  # the last in the output folder, which may be still to be made
            place = get_last_checkpoint(self.args.output_dir) if os.path.isdir(self.args.output_dir) else None
        if place:
            folder = os.path.abspath(place)
            see(folder, _look_at(folder)[0])
        return train(self, None, *args, **kwargs)

    return from_the_start


def _look_at(
    folder: str, tag: str | None = None, *, is_universal: bool = False
) -> tuple[LoadedCheckpoint | None, dict[str, Any]]:
    """Looks at what lies there, and at what was saved with it: empty where that cannot be read."""
    found = read_checkpoint(folder, tag, is_universal=is_universal)
    if found is None and is_universal and tag is None:
        found = to_make_universal(folder)
    if found is None:
        return None, {}
    state = _state(found)
    zero = (state.get("ds_config") or {}).get("zero_optimization")
    if not isinstance(zero, dict):
        return found, state
    return replace(found, rank_count=found.rank_count or state.get("dp_world_size"), offload=offload_in(zero)), state


def _state(found: LoadedCheckpoint) -> dict[str, Any]:
    """What rank 0 saved, its tensors left on the disk. The script's own load would unpickle the same file."""
    file = min(Path(found.path).glob("*model_states.pt"))
    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", mmap=True, weights_only=False)
        return state
    except Exception as error:  # whatever is in a damaged or foreign file: the names have told what decides
        print(f"{file} cannot be read: {error}")
        return {}

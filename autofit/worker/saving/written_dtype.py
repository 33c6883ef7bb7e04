"""A model written in another dtype than it trains in: DDP trains weights in fp32 whose files are in the rung's."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers.utils import CONFIG_NAME

from autofit.domain.codec import to_json

from .stored_state import StoredState


def in_dtype(state: StoredState, dtype: torch.dtype) -> StoredState:
    """The state with its floating-point tensors in `dtype`, in which they are written."""
    outline = {name: one.to(dtype) if one.is_floating_point() else one for name, one in state.outline.items()}
    return replace(state, outline=outline)


def tell_dtype(folder: Path, dtype: torch.dtype) -> None:
    """Has the config.json in `folder`, where there is one, and each part of it name `dtype` as that of the weights."""
    path = folder / CONFIG_NAME
    if path.is_file():
        config = _with_dtype(json.loads(path.read_text("utf-8")), str(dtype).removeprefix("torch."))
        path.write_text(to_json(config, indent=2, sort_keys=True) + "\n", "utf-8")


def _with_dtype(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: name if key == "dtype" else _with_dtype(one, name) for key, one in value.items()}

"""What a rung's checkpointing is to the trainer, beside the user's own words, and what it tells torch's allocator."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.planning.memory.pinned import VARIABLE, WORDS
from autofit.worker.training.checkpointing_arguments import checkpointing_arguments
from autofit.worker.training.pinned_blocks import keep_pinned_blocks

USERS = {"gradient_checkpointing_kwargs": '{"use_reentrant": true}'}


@pytest.mark.parametrize(
    ("checkpointing", "extra", "keys"),
    [
        (GradientCheckpointing.OFF, USERS, None),
        (GradientCheckpointing.ON, {}, None),
        (GradientCheckpointing.ON, USERS, {"use_reentrant": True}),
        (GradientCheckpointing.EVERY_2, USERS, {"use_reentrant": True, "every_n_layers": 2}),
        (GradientCheckpointing.OFFLOAD, {}, {"offload": True}),
        (GradientCheckpointing.SELECTIVE, {}, None),
    ],
)
def test_a_rung_says_how_it_checkpoints(
    checkpointing: GradientCheckpointing, extra: dict[str, str], keys: dict[str, Any] | None
) -> None:
    told = checkpointing_arguments(checkpointing, extra)
    assert told == {
        "gradient_checkpointing": checkpointing is not GradientCheckpointing.OFF,
        "activation_checkpointing_kwargs": keys,
        "gradient_checkpointing_kwargs": None,
    }


@pytest.mark.parametrize(("words", "count"), [(WORDS, 1), (f"backend:native,{WORDS}", 1), ("backend:native", 0)])
def test_blocks_are_kept_where_they_would_be_given_back(
    monkeypatch: pytest.MonkeyPatch, words: str, count: int
) -> None:
    told: list[str] = []
    monkeypatch.setenv(VARIABLE, words)
    monkeypatch.setattr(torch._C, "_accelerator_setAllocatorSettings", told.append)
    keep_pinned_blocks()
    assert len(told) == count

"""What a checkpoint allows, by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.checkpoint import Checkpoint
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import OPTIMIZER, Optimizer
from autofit.domain.knobs.pins import Pins
from autofit.domain.knobs.zero_stage import ZERO_STAGE
from autofit.domain.request import Lora
from autofit.planning.space.resumption import can_resume, checkpoint_text, conflicts, narrow_to_checkpoint, weights_text
from tests.builders import make_request, make_rung

REQUEST = make_request(global_batch=8)
CHECKPOINT = Checkpoint("/c", 3, 2, 2, Dtype.BF16, None, 64, 8, 42, 2e-5)
RUNG = make_rung(
    2, offload=Offload.OPTIMIZER, gradient_checkpointing=GradientCheckpointing.ON, attention=Attention.EAGER
)


@pytest.mark.parametrize(
    ("there", "asked", "is_loaded"),
    [(1, 2, True), (2, 1, True), (2, 3, False), (3, 1, False), (2, 0, False), (0, 1, False)],
)
def test_stages_that_load_each_other(there: int, asked: int, is_loaded: bool) -> None:
    checkpoint = replace(CHECKPOINT, zero_stage=there)
    request = replace(REQUEST, pins=Pins(zero_stage=asked))
    assert (conflicts(request, checkpoint) == ()) is is_loaded
    assert can_resume(replace(RUNG, zero_stage=asked), checkpoint) is is_loaded
    assert narrow_to_checkpoint(request, checkpoint).pins.of(ZERO_STAGE) == asked
    names = {stage: ZERO_STAGE.of(stage).text for stage in (there, asked)}
    told = f"{names[there]}, bf16, 2 ranks: the search keeps to that, and {names[asked]} loads it"
    assert told in checkpoint_text(request, checkpoint)


def test_plain_data_parallel_goes_on_as_it_was() -> None:
    checkpoint = replace(CHECKPOINT, zero_stage=0)
    narrowed = narrow_to_checkpoint(REQUEST, checkpoint)
    assert narrowed.pins.of(ZERO_STAGE) == 0
    assert conflicts(replace(REQUEST, pins=Pins(zero_stage=0)), checkpoint) == ()
    assert "is of all parameters, DDP, bf16, 2 ranks: the search keeps to that" in checkpoint_text(narrowed, checkpoint)


@pytest.mark.parametrize(
    ("zero_stage", "optimizer", "pinned", "is_free"),
    [
        (0, Optimizer.ADAMW, None, True),
        (0, Optimizer.LION, None, True),
        (1, Optimizer.ADAMW, None, True),
        (2, None, Optimizer.ADAMW, True),
        (None, Optimizer.ADAMW, None, True),
        (2, Optimizer.LION, None, False),
        (2, Optimizer.ADAMW, Optimizer.LOMO, False),
        (3, Optimizer.ADAMW, None, False),
    ],
)
def test_ranks_are_free_where_nothing_is_divided_or_what_is_can_be_put_together(
    zero_stage: int | None, optimizer: Optimizer | None, pinned: Optimizer | None, is_free: bool
) -> None:
    checkpoint = replace(CHECKPOINT, zero_stage=zero_stage, optimizer=optimizer)
    request = replace(REQUEST, ranks=4, pins=Pins(optimizer=pinned))
    assert conflicts(request, checkpoint) == (() if is_free else ("--ranks (2, now 4)",))
    if is_free:
        narrowed = narrow_to_checkpoint(request, checkpoint)
        assert narrowed.ranks == 4
        assert "2 ranks, now 4: the search keeps to that" in checkpoint_text(narrowed, checkpoint)


def test_what_decides_nothing_of_the_checkpoint_stays_open() -> None:
    narrowed = narrow_to_checkpoint(REQUEST, CHECKPOINT)
    assert narrowed.pins == Pins(method=Method.FULL, zero_stage=2, dtype=Dtype.BF16)
    assert (narrowed.ranks, narrowed.training) == (2, REQUEST.training)


def test_what_is_not_known_is_no_conflict() -> None:
    silent = Checkpoint("/c", 3, 2, None, None, None)
    asked = replace(REQUEST, pins=Pins(zero_stage=3, dtype=Dtype.FP32))
    assert conflicts(asked, silent) == ()
    assert can_resume(replace(RUNG, zero_stage=3), silent)


def test_an_optimizer_goes_on_with_its_own_states() -> None:
    """A checkpoint has no word for what updates in the backward pass: its trainer names AdamW then."""
    lean = replace(CHECKPOINT, optimizer=Optimizer.ADAMW_8BIT)
    plain = replace(CHECKPOINT, optimizer=Optimizer.ADAMW)
    allowing = replace(REQUEST, allow=("lion", "adamw_8bit"))
    assert narrow_to_checkpoint(allowing, lean).pins.of(OPTIMIZER) is Optimizer.ADAMW_8BIT
    assert narrow_to_checkpoint(allowing, plain).pins.of(OPTIMIZER) is Optimizer.ADAMW
    assert narrow_to_checkpoint(replace(REQUEST, allow=("lomo",)), plain).pins.of(OPTIMIZER) is None
    asked = replace(REQUEST, pins=Pins(optimizer=Optimizer.LION))
    assert conflicts(asked, lean) == ("--optimizer (adamw_8bit, now lion)",)
    assert conflicts(replace(REQUEST, pins=Pins(optimizer=Optimizer.LOMO)), plain) == ()
    assert not can_resume(RUNG, lean)
    assert can_resume(replace(RUNG, optimizer=Optimizer.ADAMW_8BIT), lean)


def test_an_unknown_stage_is_one_that_deepspeed_wrote() -> None:
    silent = Checkpoint("/c", 3, 2, None, None, None)
    assert narrow_to_checkpoint(REQUEST, silent).pins.of(ZERO_STAGE) == 2
    assert not can_resume(replace(RUNG, zero_stage=0), silent)
    assert conflicts(replace(REQUEST, pins=Pins(zero_stage=0)), silent) == ("--zero-stage (unknown, now 0)",)


def test_modules_are_the_same_in_any_order() -> None:
    checkpoint = replace(CHECKPOINT, lora=Lora(target_modules=("q_proj", "v_proj")))
    assert conflicts(replace(REQUEST, lora=Lora(target_modules=("v_proj", "q_proj"))), checkpoint) == ()
    assert conflicts(replace(REQUEST, lora=Lora(target_modules=("q_proj",))), checkpoint) == (
        "--lora-target-modules (q_proj,v_proj, now q_proj)",
    )


def test_weights_are_offered_as_they_can_be_loaded() -> None:
    assert weights_text(REQUEST, CHECKPOINT) == "--model /c without --resume"
    assert "merge --base m --adapter /c --dtype bf16" in weights_text(REQUEST, replace(CHECKPOINT, lora=Lora()))

"""When a training is called lost, by what its steps say."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from autofit.worker.checkpoints import last_whole, set_aside
from autofit.worker.divergence import Judge, Trouble

NAN = math.nan


def judged(losses: list[float], norms: list[float] | None = None, *, scales_loss: bool = False) -> Judge:
    """After one step for each loss; a norm that is not finite was skipped by DeepSpeed."""
    judge = Judge(0, scales_loss=scales_loss)
    for step, loss in enumerate(losses, start=1):
        norm = 1.0 if norms is None else norms[step - 1]
        judge.take_gradient(step, norm, was_skipped=not math.isfinite(norm))
        judge.take_loss(step, loss)
    return judge


def test_a_training_that_learns_is_sound() -> None:
    noise = random.Random(0)
    losses = [7.0 * 0.99**step + noise.gauss(0, 0.3) for step in range(500)]
    norms = [noise.lognormvariate(0, 1.5) for _ in losses]
    judge = Judge(0, scales_loss=False)
    for step, (loss, norm) in enumerate(zip(losses, norms, strict=True)):
        judge.take_gradient(step, norm, was_skipped=False)
        judge.take_loss(step, loss)
        assert judge.trouble is None


def test_a_small_loss_may_multiply() -> None:
    assert judged([0.01] * 20 + [0.5] * 20).trouble is None


def test_a_loss_that_is_not_finite_is_borne_for_two_steps() -> None:
    assert judged([2.0, 2.0, NAN, NAN]).trouble == Trouble(3, 1, "the loss is not finite", is_lasting=False)
    assert judged([2.0, 2.0, NAN, math.inf, NAN]).trouble == Trouble(3, 1, "the loss is not finite", is_lasting=True)
    assert judged([2.0, NAN, NAN, 2.0, NAN]).trouble == Trouble(5, 3, "the loss is not finite", is_lasting=False)


@pytest.mark.parametrize("diverged", [9.0, 400.0])
def test_a_loss_explodes_against_its_own_history(diverged: float) -> None:
    judge = judged([1.5, 1.4, 1.6] + [diverged] * 5)
    assert judge.trouble == Trouble(4, 2, "the loss has exploded", is_lasting=True)
    recovered = judged([1.5, 1.4, 1.6] + [diverged] * 4 + [2.0])
    assert recovered.trouble is None


def test_what_is_exploded_is_not_what_the_next_is_compared_with() -> None:
    assert judged([1.5] + [60.0] * 60).trouble == Trouble(2, 0, "the loss has exploded", is_lasting=True)


def test_a_norm_explodes_where_the_loss_does_not() -> None:
    trouble = judged([2.0] * 9, [1.0] * 4 + [5e4] * 5).trouble
    assert trouble == Trouble(5, 3, "the gradient norm has exploded", is_lasting=True)
    assert judged([2.0] * 9, [1.0] * 4 + [500.0] * 5).trouble is None


def test_steps_that_are_skipped_are_no_steps() -> None:
    trouble = judged([2.0] * 4, [1.0, NAN, NAN, NAN]).trouble
    assert trouble == Trouble(2, 0, "the gradients are not finite", is_lasting=True)


def test_a_loss_scale_finds_its_way_down() -> None:
    """From 2^16 in halves, once a step."""
    assert judged([2.0] * 20, [NAN] * 18 + [1.0, 1.0], scales_loss=True).trouble is None
    trouble = judged([2.0] * 40, [NAN] * 40, scales_loss=True).trouble
    assert trouble is not None
    assert trouble.is_lasting


def test_of_a_resumed_training_what_lies_before_is_known_to_be_good() -> None:
    judge = Judge(100, scales_loss=False)
    judge.take_loss(101, NAN)
    assert judge.trouble is not None
    assert (judge.trouble.first_step, judge.trouble.good_step) == (101, 99)


def test_what_was_saved_too_late_is_set_aside(tmp_path: Path) -> None:
    for step in (8, 9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}/trainer_state.json").touch()
    (tmp_path / "diverged-10").mkdir()
    (tmp_path / "diverged-10/trainer_state.json").touch()  # of an earlier try
    assert last_whole(tmp_path, 9) == tmp_path / "checkpoint-9"
    set_aside(tmp_path, 9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-8", "checkpoint-9", "diverged-10"]
    assert last_whole(tmp_path) == tmp_path / "checkpoint-9"

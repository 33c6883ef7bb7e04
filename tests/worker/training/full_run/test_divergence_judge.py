"""When a training is called lost, by what its steps say."""

from __future__ import annotations

import math
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from autofit.domain.divergence import ChangedNothing, EndedNotFinite, Stopped, Symptom
from autofit.domain.request import OnDivergence
from autofit.process.saved_steps import last_whole, set_aside
from autofit.worker.rank.failure import TrainingDiverged
from autofit.worker.training.full_run.divergence_judge import Judge, Trouble
from autofit.worker.training.full_run.divergence_watch import DivergenceWatch

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
    assert judged([2.0, 2.0, NAN, NAN]).trouble == Trouble(3, 1, Symptom.LOSS_NOT_FINITE, is_persistent=False)
    assert judged([2.0, 2.0, NAN, math.inf, NAN]).trouble == Trouble(3, 1, Symptom.LOSS_NOT_FINITE, is_persistent=True)
    assert judged([2.0, NAN, NAN, 2.0, NAN]).trouble == Trouble(5, 3, Symptom.LOSS_NOT_FINITE, is_persistent=False)


@pytest.mark.parametrize("diverged", [9.0, 400.0])
def test_a_loss_explodes_against_its_own_history(diverged: float) -> None:
    judge = judged([1.5, 1.4, 1.6] + [diverged] * 5)
    assert judge.trouble == Trouble(4, 2, Symptom.LOSS_EXPLODED, is_persistent=True)
    recovered = judged([1.5, 1.4, 1.6] + [diverged] * 4 + [2.0])
    assert recovered.trouble is None


def test_what_is_exploded_is_not_what_the_next_is_compared_with() -> None:
    assert judged([1.5] + [60.0] * 60).trouble == Trouble(2, 0, Symptom.LOSS_EXPLODED, is_persistent=True)


def test_a_norm_explodes_where_the_loss_does_not() -> None:
    trouble = judged([2.0] * 9, [1.0] * 4 + [5e4] * 5).trouble
    assert trouble == Trouble(5, 3, Symptom.GRADIENT_EXPLODED, is_persistent=True)
    assert judged([2.0] * 9, [1.0] * 4 + [500.0] * 5).trouble is None


def test_steps_that_are_skipped_are_no_steps() -> None:
    trouble = judged([2.0] * 4, [1.0, NAN, NAN, NAN]).trouble
    assert trouble == Trouble(2, 0, Symptom.GRADIENT_NOT_FINITE, is_persistent=True)


def test_a_loss_scale_finds_its_way_down() -> None:
    """From 2^16 in halves, once a step."""
    assert judged([2.0] * 20, [NAN] * 18 + [1.0, 1.0], scales_loss=True).trouble is None
    trouble = judged([2.0] * 40, [NAN] * 40, scales_loss=True).trouble
    assert trouble is not None
    assert trouble.is_persistent


def test_of_a_resumed_training_what_lies_before_is_known_to_be_good() -> None:
    judge = Judge(100, scales_loss=False)
    judge.take_loss(101, NAN)
    assert judge.trouble is not None
    assert (judge.trouble.first_step, judge.trouble.good_step) == (101, 99)


def test_of_two_troubles_the_earlier_says_what_is_good() -> None:
    judge = judged([2.0] * 4 + [NAN] * 3, [1.0, 1.0, 5e4, 5e4, 5e4, 5e4, 5e4])
    assert judge.trouble == Trouble(3, 1, Symptom.LOSS_NOT_FINITE, is_persistent=True)


class Training:
    """A trainer of which the watch hears, step by step."""

    def __init__(self, action: OnDivergence, folder: Path) -> None:
        self.args = SimpleNamespace(fp16=False, output_dir=str(folder))
        self.state = SimpleNamespace(global_step=0, log_history=[])
        self.gradient_norm = 1.0
        self.control = SimpleNamespace(should_save=False)
        self.learning_rate = 1e-3
        self.watch = DivergenceWatch(self, action)  # type: ignore[arg-type]
        self.watch.on_train_begin(self.args, self.state)  # type: ignore[arg-type]

    def _get_learning_rate(self) -> float:
        return self.learning_rate

    def is_world_process_zero(self) -> bool:
        return True

    def step(self, loss: float, *, is_save_due: bool = False, is_skipped: bool = False) -> bool:
        """Whether it is saved."""
        self.state.global_step += 1
        self.control.should_save = is_save_due
        self.watch.step_end(was_skipped=is_skipped)
        self.watch.on_optimizer_step()
        self.watch.on_step_end(self.args, self.state, self.control)  # type: ignore[arg-type]
        self.state.log_history.append({"loss": loss, "step": self.state.global_step})
        self.watch.on_log(self.args, self.state, self.control, {"loss": loss})  # type: ignore[arg-type]
        return bool(self.control.should_save)


def test_nothing_is_saved_while_something_is_wrong_and_what_was_due_is_saved_after_it(tmp_path: Path) -> None:
    training = Training(OnDivergence.WARN, tmp_path)
    losses = [2.0, NAN, NAN, NAN, NAN, 2.0, 2.0]
    assert [training.step(loss, is_save_due=n == 2) for n, loss in enumerate(losses)] == [False] * 5 + [True, False]
    training.step(NAN)
    training.control.should_save = True  # by the end of an epoch
    training.watch.on_epoch_end(training.args, training.state, training.control)  # type: ignore[arg-type]
    assert training.control.should_save is False
    assert training.state.log_history[1] == {"loss": None, "step": 2}


def test_a_step_that_is_skipped_now_and_then_is_counted_and_borne(tmp_path: Path) -> None:
    training = Training(OnDivergence.STOP, tmp_path)
    for number in range(20):
        training.step(2.0, is_skipped=number % 3 == 0)
    assert training.watch.skipped_steps == 7
    training.watch.check_end(2.0, None)


@pytest.mark.parametrize(("is_skipped", "learning_rate"), [(True, 1e-3), (False, 0.0)])
def test_what_has_not_moved_has_changed_nothing(is_skipped: bool, learning_rate: float, tmp_path: Path) -> None:
    training = Training(OnDivergence.WARN, tmp_path)
    training.watch.check_end(None, None)  # resumed when it was through
    training.learning_rate = learning_rate
    training.step(2.0, is_skipped=is_skipped)
    with pytest.raises(TrainingDiverged) as raised:
        training.watch.check_end(2.0, None)
    assert raised.value.divergence == ChangedNothing(was_skipped=is_skipped)


@pytest.mark.parametrize(("loss", "eval_loss", "is_evaluation"), [(NAN, 2.0, False), (2.0, math.inf, True)])
def test_a_loss_that_ends_as_no_number_is_a_failure_whatever_was_asked_for(
    loss: float, eval_loss: float, is_evaluation: bool, tmp_path: Path
) -> None:
    training = Training(OnDivergence.WARN, tmp_path)
    training.step(2.0)
    with pytest.raises(TrainingDiverged) as raised:
        training.watch.check_end(loss, eval_loss)
    assert raised.value.divergence == EndedNotFinite(is_evaluation, None, None)


def test_what_lasts_stops_the_training_with_what_it_is_and_the_last_good_checkpoint(tmp_path: Path) -> None:
    for step in (1, 3):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}/trainer_state.json").write_text("{}")
    training = Training(OnDivergence.STOP, tmp_path)
    for loss in (2.0, 2.0, NAN, NAN):
        training.step(loss)
    with pytest.raises(TrainingDiverged) as raised:
        training.step(NAN)
    good = str(tmp_path / "checkpoint-1")
    assert raised.value.divergence == Stopped(Symptom.LOSS_NOT_FINITE, 3, good)
    assert (tmp_path / "diverged-3").is_dir()


def test_a_folder_without_a_step_in_its_name_is_no_good_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-best").mkdir()
    (tmp_path / "checkpoint-best/trainer_state.json").write_text("{}")
    training = Training(OnDivergence.STOP, tmp_path)
    with pytest.raises(TrainingDiverged) as raised:
        training.watch.check_end(NAN, None)
    assert raised.value.divergence == EndedNotFinite(False, None, None)
    assert (tmp_path / "checkpoint-best").is_dir()


def test_what_was_saved_too_late_is_set_aside(tmp_path: Path) -> None:
    for step in (8, 9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}/trainer_state.json").write_text("{}")
    (tmp_path / "diverged-10").mkdir()
    (tmp_path / "diverged-10/trainer_state.json").write_text("{}")  # of an earlier try
    assert last_whole(tmp_path, 9) == tmp_path / "checkpoint-9"
    set_aside(tmp_path, 9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-8", "checkpoint-9", "diverged-10"]
    assert last_whole(tmp_path) == tmp_path / "checkpoint-9"

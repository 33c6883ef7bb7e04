"""The trainer's side: what is measured before a step, what is heard of it, and what models of other families learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.request import Training
from autofit.worker.deepspeed.engine_watch import StepListener
from autofit.worker.fused_update.lomo import Lomo
from autofit.worker.fused_update.replicated import ReplicatedOptimizer
from autofit.worker.fused_update.rounding import StochasticRounding
from autofit.worker.rank.failure import KnownFailure
from autofit.worker.training.trainer import StepListening
from tests.models.families import write_model
from tests.models.job import job_of, trainer_of

ACCUMULATION, STEPS = 2, 2


class Heard(StepListener):
    def __init__(self) -> None:
        self.events: list[str] = []

    def forward(self, batch: Any) -> None:
        self.events.append("forward")

    def backward(self) -> None:
        self.events.append("backward")

    def update(self) -> None:
        self.events.append("update")

    def micro_step_end(self) -> None:
        self.events.append("micro-step")

    def step_end(self, *, was_skipped: bool) -> None:
        self.events.append(f"step, skipped: {was_skipped}")


def trained(model: Path, folder: Path, optimizer: Optimizer, **overrides: object) -> Any:
    """A trainer without an engine that has trained, without dropout, from the same weights."""
    job = job_of(model, zero_stage=0, dtype=Dtype.FP32, optimizer=optimizer)
    clipping = Training(extra_arguments=("--max_grad_norm", "0.5"))
    job = replace(job, request=replace(job.request, training=clipping))
    trainer = trainer_of(job, folder, accumulation=ACCUMULATION, max_steps=STEPS, **overrides)
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    trainer.heard = Heard()
    trainer.add_callback(StepListening(trainer, trainer.heard))
    trainer.train()
    return trainer


@pytest.mark.parametrize("model_type", ["gpt2", "mixtral", "gemma3"])
def test_other_families_learn_the_same_and_nothing_is_heard_of_what_only_measures(
    model_type: str, tmp_path: Path
) -> None:
    """Transposed matrices and biases; experts in one tensor; a tower that has no gradients."""
    model = write_model(model_type, tmp_path / "model")
    lomo = trained(model, tmp_path, Optimizer.LOMO)
    plain = trained(model, tmp_path, Optimizer.ADAMW, optim="sgd")
    weights, others = lomo.model.state_dict(), plain.model.state_dict()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, others[name], rtol=0.0, atol=1e-6)
    assert lomo.heard.events == plain.heard.events
    for name in ("loss", "grad_norm", "learning_rate", "num_tokens"):
        told = [[entry[name] for entry in one.state.log_history if name in entry] for one in (lomo, plain)]
        assert len(told[0]) == STEPS
        assert told[0] == pytest.approx(told[1], rel=1e-5), name


def test_two_gradients_of_one_parameter_in_one_pass_are_no_step() -> None:
    """The second would be that of other weights than the first."""
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = ReplicatedOptimizer([{"params": [weight]}], Lomo(StochasticRounding(0)), 0.1)
    weight.sum().backward()
    with pytest.raises(RuntimeError, match="two gradients in one backward pass"):
        weight.sum().backward()
    optimizer.end_backward()
    weight.grad = None
    weight.sum().backward()
    torch.testing.assert_close(weight.detach(), torch.full((3,), 0.8))


def test_weights_are_of_the_rungs_dtype_and_no_gradient_is_left(tmp_path: Path) -> None:
    job = job_of(write_model("llama", tmp_path / "model"), zero_stage=0, optimizer=Optimizer.ADALOMO)
    trainer = trainer_of(job, tmp_path)
    before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    trainer.train()
    assert trainer.accelerator.mixed_precision == "no"
    assert trainer.model_wrapped is trainer.model
    for name, parameter in trainer.model.named_parameters():
        assert parameter.dtype is torch.bfloat16
        assert parameter.grad is None
        assert not torch.equal(parameter, before[name])
    kept = trainer.optimizer.state_dict()["rule"]["moments"].values()
    assert {tensor.dtype for moments in kept for tensor in moments.values()} == {torch.float32}


def test_a_checkpoint_of_another_optimizer_is_refused_with_what_to_do() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 2))
    adamw = torch.optim.AdamW([weight]).state_dict()
    optimizer = ReplicatedOptimizer([{"params": [weight]}], Lomo(StochasticRounding(0)), 0.1)
    with pytest.raises(KnownFailure, match="another optimizer than LOMO or AdaLomo has written this checkpoint"):
        optimizer.load_state_dict(adamw)
    optimizer.load_state_dict(optimizer.state_dict())

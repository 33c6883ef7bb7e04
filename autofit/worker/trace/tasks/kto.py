"""A micro-step of Kahneman-Tversky optimization: trl 1.16's KTOTrainer."""

from __future__ import annotations

import torch
from torch import nn

from autofit.domain.trace import MicroStep
from autofit.worker.trace.router_loss import router_words, with_router_loss
from autofit.worker.trace.tasks.referenced import (
    BETA,
    TracedPreference,
    referring,
    scored,
    sequences,
)
from autofit.worker.trace.tasks.traced_task import Batch

_COMPARED = "KL_"  # begins the names of what is behind another row's prompt


class TracedKto(TracedPreference):
    outputs = ("log_probs", "entropy", "mean_logits")

    def batch(self, step: MicroStep) -> Batch:
        batch = sequences(step.micro_batch, step.tokens)
        if step.compares_rows:
            batch |= sequences(step.micro_batch, step.tokens, _COMPARED)
        if not step.has_reference:
            batch["ref_logps"] = torch.ones(step.micro_batch)
        return batch

    def loss(self, model: nn.Module, batch: Batch, reference: nn.Module | None) -> torch.Tensor:
        with torch.no_grad():
            moved = _compared(model, batch)
        outputs = scored(model, batch, **router_words(model))
        answers = outputs.log_probs.sum(dim=1)
        if "ref_logps" in batch:
            referred = batch["ref_logps"]
        else:
            with referring(model, reference) as other:
                moved = moved - _compared(other, batch)
                referred = scored(other, batch).log_probs.sum(dim=1)
        gains = 1 - torch.sigmoid(BETA * (answers - referred - moved.mean().clamp(min=0)))
        return with_router_loss(gains.nanmean(), model, outputs)


def _compared(model: nn.Module, batch: Batch) -> torch.Tensor:
    """The log-probabilities of the answers behind other rows' prompts, 0 where none is asked for."""
    if f"{_COMPARED}input_ids" not in batch:
        return torch.zeros(1)
    logps: torch.Tensor = scored(model, batch, _COMPARED).log_probs.sum(dim=1)
    return logps

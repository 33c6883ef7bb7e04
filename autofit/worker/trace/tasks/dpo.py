"""A micro-step of direct preference optimization: trl 1.16's DPOTrainer with its default loss."""

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


class TracedDpo(TracedPreference):
    outputs = ("log_probs", "entropy", "mean_logits", "is_top1")

    def batch(self, step: MicroStep) -> Batch:
        batch = sequences(2 * step.micro_batch, step.tokens)
        if not step.has_reference:
            batch["ref_logps"] = torch.ones(2 * step.micro_batch)
        return batch

    def loss(self, model: nn.Module, batch: Batch, reference: nn.Module | None) -> torch.Tensor:
        outputs = scored(model, batch, **router_words(model))
        answers = outputs.log_probs.sum(dim=1)
        if "ref_logps" in batch:
            referred = batch["ref_logps"]
        else:
            with referring(model, reference) as other:
                referred = scored(other, batch).log_probs.sum(dim=1)
        chosen, rejected = (answers - referred).chunk(2, dim=0)
        loss = -nn.functional.logsigmoid(BETA * (chosen - rejected)).mean()
        return with_router_loss(loss, model, outputs)

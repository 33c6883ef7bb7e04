"""A micro-step of supervised fine-tuning: trl 1.16's SFTTrainer."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from autofit.domain.trace import MicroStep
from autofit.worker.model.loss_names import name_for_loss
from autofit.worker.trace.router_loss import enable_router_loss, router_words, with_router_loss
from autofit.worker.trace.tasks.traced_task import Batch, TracedTask, token_batch

_OUTPUTS = ("log_probs", "entropy", "is_top1")  # what SFTTrainer asks of the loss


class TracedSft(TracedTask):
    def prepare(self, model: PreTrainedModel) -> None:
        name_for_loss(model)
        add_fused_lm_head(model, outputs=_OUTPUTS)
        enable_router_loss(model.config)

    def batch(self, step: MicroStep) -> Batch:
        return token_batch(step.micro_batch, step.tokens, "input_ids", "labels", "attention_mask")

    def loss(self, model: nn.Module, batch: Batch, reference: nn.Module | None) -> torch.Tensor:
        outputs = model(**batch, use_cache=False, fused_lm_head=True, **router_words(model))
        loss: torch.Tensor = (-outputs.log_probs).sum() / (batch["labels"] != -100).sum().clamp(min=1)
        return with_router_loss(loss, model, outputs)

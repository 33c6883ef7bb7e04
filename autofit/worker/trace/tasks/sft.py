"""A micro-step of supervised fine-tuning: trl 1.16's SFTTrainer."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from autofit.domain.trace import MicroStep
from autofit.worker.model.loss_names import name_for_loss
from autofit.worker.trace.router_loss import enable_router_loss, has_router_loss
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
        config: Any = model.config
        extra: dict[str, Any] = {"output_router_logits": True} if has_router_loss(config) else {}
        outputs = model(**batch, use_cache=False, fused_lm_head=True, **extra)
        loss: torch.Tensor = (-outputs.log_probs).sum() / (batch["labels"] != -100).sum().clamp(min=1)
        if extra:
            loss = loss + config.get_text_config().router_aux_loss_coef * outputs.aux_loss
        return loss

"""A micro-step of a reward model: trl 1.16's RewardTrainer."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from autofit.domain.trace import MicroStep
from autofit.worker.trace.tasks.traced_task import Batch, TracedTask, token_batch


class TracedReward(TracedTask):
    def prepare(self, model: PreTrainedModel) -> None:
        text = model.config.get_text_config()
        if text.pad_token_id is None:  # the tokenizer's, whichever it is: it tells where a sequence ends
            text.pad_token_id = 0

    def batch(self, step: MicroStep) -> Batch:
        return token_batch(2 * step.micro_batch, step.tokens, "input_ids", "attention_mask")

    def loss(self, model: nn.Module, batch: Batch, reference: nn.Module | None) -> torch.Tensor:
        scores = model(**batch, use_cache=False).logits
        chosen, rejected = torch.chunk(scores.squeeze(-1), chunks=2)
        return -nn.functional.logsigmoid(chosen - rejected).mean()

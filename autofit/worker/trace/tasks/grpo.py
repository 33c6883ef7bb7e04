"""A micro-step of group relative policy optimization: trl 1.16's GRPOTrainer with its default loss."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from autofit.domain.trace import MicroStep
from autofit.planning.data.batch_widths import PAD_TO_MULTIPLE, padded_tokens
from autofit.worker.trace.router_loss import router_words, with_router_loss
from autofit.worker.trace.tasks.referenced import referring
from autofit.worker.trace.tasks.traced_task import Batch, TracedTask, token_batch


class TracedGrpo(TracedTask):
    def prepare(self, model: PreTrainedModel) -> None:
        add_fused_lm_head(model, outputs=("log_probs", "entropy"))

    def prepare_reference(self, model: PreTrainedModel) -> None:
        add_fused_lm_head(model)

    def batch(self, step: MicroStep) -> Batch:
        """The first rows of all that a rank has generated, which stay until the next generation."""
        answer_tokens = padded_tokens(step.completion_tokens, PAD_TO_MULTIPLE[step.kind])
        prompts = token_batch(step.generated_rows, step.tokens - answer_tokens, "prompt_ids", "prompt_mask")
        generated = prompts | token_batch(step.generated_rows, answer_tokens, "completion_ids", "completion_mask")
        batch = {name: tensor[: step.micro_batch] for name, tensor in generated.items()}
        if step.has_reference:
            batch["ref_logps"] = torch.ones(step.generated_rows, answer_tokens)[: step.micro_batch]
        return {**batch, "advantages": torch.ones(step.micro_batch, 1)}

    def loss(self, model: nn.Module, batch: Batch, reference: nn.Module | None) -> torch.Tensor:
        ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
        mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
        kept = batch["completion_ids"].shape[1]
        labels = ids.masked_fill(mask == 0, -100)
        labels[:, :-kept] = -100
        inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels, "fused_lm_head": True}
        if "ref_logps" in batch:
            with referring(model, reference) as other:
                other(**inputs)
        outputs = model(**inputs, **router_words(model))
        logps = torch.cat([outputs.log_probs[:, -kept:]])
        ratio = torch.exp(logps - logps.detach())
        clipped = torch.clamp(ratio, 0.8, 1.2)
        losses = -torch.min(ratio * batch["advantages"], clipped * batch["advantages"])
        if "ref_logps" in batch:
            distance = batch["ref_logps"] - logps
            losses = losses + (torch.exp(distance) - distance - 1) * ratio
        loss = (losses * batch["completion_mask"]).sum() / batch["completion_mask"].sum()
        return with_router_loss(loss, model, outputs)

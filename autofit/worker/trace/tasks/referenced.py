"""What the micro-steps of DPO and KTO share: log-probabilities of answers by the model and by its reference."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head, disable_dropout_in_model, use_adapter

from autofit.worker.trace.tasks.traced_task import Batch, TracedTask, token_batch

BETA = 0.1


class TracedPreference(TracedTask):
    """A task whose loss is of the log-probabilities of answers, with what its trainer asks of the model's head."""

    outputs: tuple[str, ...]

    def prepare(self, model: PreTrainedModel) -> None:
        add_fused_lm_head(model, outputs=self.outputs)

    def prepare_reference(self, model: PreTrainedModel) -> None:
        disable_dropout_in_model(model)
        add_fused_lm_head(model)


def sequences(count: int, tokens: int, prefix: str = "") -> Batch:
    """So many sequences with the mask of what is no padding and of what is answer."""
    return token_batch(count, tokens, *(prefix + name for name in ("input_ids", "attention_mask", "completion_mask")))


def scored(model: nn.Module, batch: Batch, prefix: str = "", **more: Any) -> Any:
    """The output of the model's head for the answers of the sequences."""
    ids, mask = batch[f"{prefix}input_ids"], batch[f"{prefix}attention_mask"]
    labels = ids.masked_fill(batch[f"{prefix}completion_mask"] == 0, -100)
    return model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False, fused_lm_head=True, **more)


@contextlib.contextmanager
def referring(model: nn.Module, reference: nn.Module | None) -> Iterator[nn.Module]:
    """The reference without gradients: the model without its adapter where it is None."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        if reference is None:
            stack.enter_context(use_adapter(model, adapter_name=None))
        yield model if reference is None else reference

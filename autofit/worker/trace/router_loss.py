"""The load-balancing loss of a mixture of experts, which trl's trainers add to theirs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig


def has_router_loss(config: PretrainedConfig) -> bool:
    """Whether trl adds it."""
    text = config.get_text_config()
    return hasattr(text, "output_router_logits") and getattr(text, "router_aux_loss_coef", 0.0) != 0.0


def enable_router_loss(config: PretrainedConfig) -> None:
    text = config.get_text_config()
    if hasattr(text, "router_aux_loss_coef"):
        text.output_router_logits = has_router_loss(config)


def router_words(model: nn.Module) -> dict[str, Any]:
    """What the trainers ask of a mixture of experts beside the answers."""
    return {"output_router_logits": True} if has_router_loss(model.config) else {}


def with_router_loss(loss: torch.Tensor, model: nn.Module, outputs: Any) -> torch.Tensor:
    """The loss with that of the router where there is one."""
    config: Any = model.config
    if not has_router_loss(config):
        return loss
    total: torch.Tensor = loss + config.get_text_config().router_aux_loss_coef * outputs.aux_loss
    return total

"""The load-balancing loss of a mixture of experts, which trl's trainers add to theirs."""

from __future__ import annotations

from transformers import PretrainedConfig


def has_router_loss(config: PretrainedConfig) -> bool:
    """Whether trl adds it."""
    text = config.get_text_config()
    return hasattr(text, "output_router_logits") and getattr(text, "router_aux_loss_coef", 0.0) != 0.0


def enable_router_loss(config: PretrainedConfig) -> None:
    text = config.get_text_config()
    if hasattr(text, "router_aux_loss_coef"):
        text.output_router_logits = has_router_loss(config)

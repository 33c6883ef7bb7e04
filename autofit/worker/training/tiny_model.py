"""Models of one tiny layer, beside which trl's trainers look at data."""

from __future__ import annotations

from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification


def tiny_model(vocabulary_size: int) -> LlamaForCausalLM:
    """One with a head for words."""
    return LlamaForCausalLM(_tiny(vocabulary_size))


def tiny_scoring_model(vocabulary_size: int) -> LlamaForSequenceClassification:
    """One with a head of one number."""
    return LlamaForSequenceClassification(_tiny(vocabulary_size, num_labels=1))


def _tiny(vocabulary_size: int, **further: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        **further,
    )

"""The strategy that a script has of its own."""

from __future__ import annotations

from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.method import Method
from autofit.domain.script import ScriptFacts
from autofit.domain.strategy import Rung, Strategy


def own_strategy(facts: ScriptFacts) -> Strategy:
    """Its method counts as full: LoRA is the script's own affair. Attention that cannot be told counts as SDPA."""
    rung = Rung(
        method=Method.FULL,
        zero_stage=facts.zero_stage,
        offload=facts.offload,
        gradient_checkpointing=bool(facts.gradient_checkpointing),
        attention=facts.attention or Attention.SDPA,
        dtype=facts.dtype,
    )
    return Strategy(rung, facts.micro_batch, facts.gradient_accumulation)

"""What a script shows of itself, as a strategy."""

from __future__ import annotations

from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.offload import Offload
from autofit.planning.script.script_setting import own_strategy
from tests.builders import make_facts


def test_it_is_the_engines_and_what_cannot_be_told_is_the_commonest() -> None:
    facts = make_facts(
        dtype=Dtype.FP16,
        zero_stage=3,
        offload=Offload.OPTIMIZER,
        micro_batch=4,
        gradient_accumulation=8,
        gradient_checkpointing=None,
        attention=None,
    )
    strategy = own_strategy(facts)
    assert str(strategy) == "zero3+offload+fp16 mb4"
    assert (strategy.gradient_accumulation, strategy.rung.dtype) == (8, Dtype.FP16)
    assert strategy.rung.attention is Attention.SDPA

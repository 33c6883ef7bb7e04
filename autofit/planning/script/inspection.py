"""What is asked of a script before its search: the strategy that needs least, and what looks at it say together."""

from __future__ import annotations

from dataclasses import replace

from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.script import Ask, ScriptFacts
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.training_length import SeenLength
from autofit.planning.micro_batches import accumulation

from .step_count import combine_countings
from .tunable_knobs import TunableKnobs, own_batches


def preferred_attention(facts: ScriptFacts, has_flash: bool) -> Attention:
    """The kernel to look with: FlashAttention-2 where it works and the kernel may be tuned, else what the script
    has."""
    own = facts.attention or Attention.SDPA
    return Attention.FLASH_2 if has_flash and facts.attention else own


def needs_second_look(facts: ScriptFacts, knobs: TunableKnobs, attention: Attention) -> bool:
    """Whether the script as it is has not shown all that the search needs."""
    has_other_kernel = facts.attention not in (None, attention)
    may_count_batches = knobs.can_tune_micro_batch and Ask.TRAINER not in facts.counting.asks
    return facts.rows is None or knobs.is_unproven or may_count_batches or has_other_kernel


def leanest(facts: ScriptFacts, knobs: TunableKnobs, attention: Attention) -> Strategy:
    """The strategy that needs least memory of what may be tuned; offload aside, which makes a first look slow. Its
    micro-batch differs from the script's own where both are possible, to show whether the batches follow."""
    rung = Rung(
        method=Method.FULL,
        zero_stage=_least_stage(knobs) if knobs.can_tune_stage else facts.zero_stage,
        offload=knobs.held_offload or Offload.NONE if knobs.can_tune_offload else facts.offload,
        gradient_checkpointing=GradientCheckpointing(facts.gradient_checkpointing is not None),
        attention=attention,
        dtype=facts.dtype,
    )
    micro_batch = _least(facts) if knobs.can_tune_micro_batch else facts.micro_batch
    return Strategy(rung, micro_batch, accumulation(facts.global_batch, facts.rank_count, micro_batch))


def complete_facts(facts: ScriptFacts, knobs: TunableKnobs, seen: ScriptFacts) -> tuple[ScriptFacts, TunableKnobs]:
    """The facts of the script as it is, completed by what it showed as the leanest strategy."""
    facts = replace(
        facts,
        counting=combine_countings(facts.counting, seen.counting),
        length=_length(facts, seen),
        loads_from=facts.loads_from or seen.loads_from,
        checkpoint=facts.checkpoint or seen.checkpoint,
    )
    if seen.rows is None:
        return facts, knobs
    rows_per_sample = _rows_per_sample(facts if facts.rows or knobs.is_unproven else seen)
    rows = facts.rows or rows_per_sample * facts.micro_batch
    if knobs.is_unproven and seen.rows != rows_per_sample * seen.micro_batch:
        knobs, rows = own_batches(knobs, seen.rows), seen.rows
    return replace(facts, rows=rows, tokens=facts.tokens or seen.tokens), knobs


def _length(facts: ScriptFacts, seen: ScriptFacts) -> SeenLength:
    """What the script as it is shows of its length; the rows of an epoch stay what they are with another batch, its
    steps do not."""
    known = facts.length
    return known if known.epoch_rows is not None else replace(known, epoch_rows=seen.length.epoch_rows)


def _least_stage(knobs: TunableKnobs) -> int:
    """The ZeRO stage that needs the least memory of those that may be tuned."""
    return 3 if knobs.held_stage is None else knobs.held_stage


def _rows_per_sample(facts: ScriptFacts) -> int:
    """The rows of a sample: one, unless a trainer of preferences joins two answers."""
    return max(1, (facts.rows or 0) // facts.micro_batch)


def _least(facts: ScriptFacts) -> int:
    share = facts.global_batch // facts.rank_count
    if facts.micro_batch > 1 or share == 1:
        return 1
    return next(rows for rows in range(2, share + 1) if share % rows == 0)

"""What holds a script to its ZeRO stage and offload: a checkpoint that it loads, or an optimizer that would change."""

from __future__ import annotations

from dataclasses import replace

from autofit.domain.deepspeed_line import Override
from autofit.domain.script import LoadedCheckpoint, ScriptFacts
from autofit.planning.optimizer_states import MOMENTS

from .tunable_knobs import TunableKnobs, unless


def hold_knobs(knobs: TunableKnobs, facts: ScriptFacts) -> TunableKnobs:
    """The knobs with stage and offload held to what a checkpoint that is there, or the optimizer, allows; what the user
    wrote stays as written."""
    if knobs.held_stage is not None:
        return knobs
    if facts.checkpoint is not None:
        return _held_to(facts.checkpoint, knobs, facts)
    if Override.STAGE in knobs.override or (facts.optimizer or "").lower() in MOMENTS:
        return knobs  # each element by itself: the same on a share of any size, whatever parameters it is of
    sentence = (
        f"ZeRO stage {facts.zero_stage} and its offload stay: {facts.optimizer} may look at whole parameters, which "
        f"another stage lays out otherwise{unless(Override.STAGE)}"
    )
    return replace(knobs, held_stage=facts.zero_stage, held_offload=facts.offload, notes=(*knobs.notes, sentence))


def _held_to(checkpoint: LoadedCheckpoint, knobs: TunableKnobs, facts: ScriptFacts) -> TunableKnobs:
    stages = checkpoint.zero_stages
    stage = facts.zero_stage if facts.zero_stage in stages else stages[-1]
    offload = facts.offload if checkpoint.offload is None else checkpoint.offload
    return replace(
        knobs, held_stage=stage, held_offload=offload, notes=(*knobs.notes, *_sentences(checkpoint, facts, stage))
    )


def is_loadable(knobs: TunableKnobs, facts: ScriptFacts) -> bool:
    """Whether the script's own configuration can load the checkpoint that is there."""
    return knobs.held_stage in (None, facts.zero_stage)


def _sentences(checkpoint: LoadedCheckpoint, facts: ScriptFacts, stage: int) -> tuple[str, ...]:
    held = f"the script loads {checkpoint.path}: ZeRO stage {stage} and its offload stay, as another could not load it"
    is_divided = not checkpoint.is_universal and 0 not in checkpoint.zero_stages
    if not is_divided or checkpoint.rank_count in (None, facts.rank_count):
        return (held,)
    ranks = f"{checkpoint.path} is of {checkpoint.rank_count} ranks and this job has {facts.rank_count}"
    return (
        held,
        f"{ranks}: its optimizer is loaded only where the config has checkpoint.load_universal",
    )

"""What a checkpoint that a script loads holds its configuration to: another one could not load it."""

from __future__ import annotations

from dataclasses import replace

from autofit.domain.script import Checkpoint, ScriptFacts

from .freedom import Freedom


def holding(free: Freedom, facts: ScriptFacts) -> Freedom:
    """With stage and offload held to those of the checkpoint that is there; what the user wrote stays as written."""
    checkpoint = facts.checkpoint
    if checkpoint is None or free.held_stage is not None:
        return free
    stages = checkpoint.zero_stages
    stage = facts.zero_stage if facts.zero_stage in stages else stages[-1]
    offload = facts.offload if checkpoint.offload is None else checkpoint.offload
    return replace(
        free, held_stage=stage, held_offload=offload, kept=(*free.kept, *_sentences(checkpoint, facts, stage))
    )


def is_loadable(free: Freedom, facts: ScriptFacts) -> bool:
    """Whether the script's own configuration can load the checkpoint that is there."""
    return free.held_stage in (None, facts.zero_stage)


def _sentences(checkpoint: Checkpoint, facts: ScriptFacts, stage: int) -> tuple[str, ...]:
    held = f"the script loads {checkpoint.path}: ZeRO stage {stage} and its offload stay, as another could not load it"
    is_divided = not checkpoint.is_universal and 0 not in checkpoint.zero_stages
    if not is_divided or checkpoint.rank_count in (None, facts.rank_count):
        return (held,)
    ranks = f"{checkpoint.path} is of {checkpoint.rank_count} ranks and this job has {facts.rank_count}"
    return (
        held,
        f"{ranks}: its optimizer is loaded only where the config has checkpoint.load_universal",
    )

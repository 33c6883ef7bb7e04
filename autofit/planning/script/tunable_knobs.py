"""What may be turned in a script that somebody else wrote, and what is kept with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from autofit.domain.deepspeed_line import Override
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.pins import Pins
from autofit.domain.script import ScriptFacts
from autofit.planning.export.deepspeed_config import OFFLOAD_KEYS

from .script_arguments import ACCUMULATION_FLAGS, MICRO_BATCH_FLAGS, find
from .zero_section import zero_section

AUTO = "auto"
MICRO_BATCH_KEY = "train_micro_batch_size_per_gpu"
ACCUMULATION_KEY = "gradient_accumulation_steps"
GLOBAL_BATCH_KEY = "train_batch_size"

Config = Mapping[str, Any]


@dataclass(frozen=True)
class TunableKnobs:
    """What may be tuned: `notes` are sentences, one for each knob that stays; `has_flags`: the batch is turned by the
    script's own flags, otherwise by the config."""

    can_tune_stage: bool
    can_tune_offload: bool
    can_tune_micro_batch: bool
    has_flags: bool
    override: frozenset[Override]
    notes: tuple[str, ...]
    held_stage: int | None = None  # what a checkpoint or the optimizer holds an open one to (see held_knobs)
    held_offload: Offload | None = None

    @property
    def is_unproven(self) -> bool:
        """Whether only a probe tells if the script makes its batches as the config says."""
        return self.can_tune_micro_batch and not self.has_flags


def tunable_knobs(config: Config, arguments: tuple[str, ...], override: frozenset[Override]) -> TunableKnobs:
    """What may be tuned by what the user wrote: a number is kept, "auto" and what is not there may be turned."""
    zero = zero_section(config)
    why_held = _why_stage_stays(config, zero, override)
    offload = Override.OFFLOAD in override or not any(key in zero for key in OFFLOAD_KEYS)
    flags = find(arguments, MICRO_BATCH_FLAGS) is not None
    why_fixed = _why_fixed(config, override, flags)
    notes = [] if why_held is None else [why_held]
    notes += [] if offload else [f"zero_optimization.offload_* stays as written{unless(Override.OFFLOAD)}"]
    notes += [] if why_fixed is None else [why_fixed]
    return TunableKnobs(why_held is None, offload, why_fixed is None, flags, override, tuple(notes))


def pins_of(knobs: TunableKnobs, facts: ScriptFacts, attention: Attention) -> Pins:
    """What the search is held to. `attention`: the kernel that the model is to have."""
    return Pins(
        method=Method.FULL,
        zero_stage=knobs.held_stage if knobs.can_tune_stage else facts.zero_stage,
        offload=knobs.held_offload if knobs.can_tune_offload else facts.offload,
        gradient_checkpointing=GradientCheckpointing.OFF if facts.gradient_checkpointing is None else None,
        attention=attention,
        micro_batch=None if knobs.can_tune_micro_batch else facts.micro_batch,
        dtype=facts.dtype,
    )


def missing_knobs(facts: ScriptFacts) -> tuple[str, ...]:
    """A sentence for each knob that this script does not have."""
    if facts.gradient_checkpointing is not None:
        return ()
    if facts.model_config is not None:
        return (f"gradient checkpointing stays off: {facts.model_class} does not support it",)
    return (f"gradient checkpointing and attention stay: {facts.model_class} is no Hugging Face model",)


def keep_micro_batch(knobs: TunableKnobs, facts: ScriptFacts, why: str) -> TunableKnobs:
    """The knobs with the micro-batch kept for a reason that the user may override; a rank with one row has nothing to
    turn."""
    if not knobs.can_tune_micro_batch or Override.MICRO_BATCH in knobs.override or facts.rank_rows == 1:
        return knobs
    sentence = f"the micro-batch stays {facts.micro_batch}: {why}{unless(Override.MICRO_BATCH)}"
    return replace(knobs, can_tune_micro_batch=False, notes=(*knobs.notes, sentence))


def keep_flagless(knobs: TunableKnobs, arguments: tuple[str, ...], facts: ScriptFacts) -> TunableKnobs:
    """The knobs with the micro-batch kept where it stands on the command line and nothing there could make up for
    another: a script refuses a flag that it does not have."""
    if not knobs.has_flags or not knobs.can_tune_micro_batch or facts.rank_rows == 1:
        return knobs
    if facts.accumulation_flag is not None or find(arguments, ACCUMULATION_FLAGS) is not None:
        return knobs
    sentence = f"the micro-batch stays {facts.micro_batch}: the script takes no {ACCUMULATION_FLAGS[0]}"
    return replace(knobs, can_tune_micro_batch=False, notes=(*knobs.notes, sentence))


def own_batches(knobs: TunableKnobs, rows: int) -> TunableKnobs:
    """The knobs once it is seen that the script makes batches of `rows` rows whatever the config says."""
    sentence = f"the micro-batch stays {rows}: the script makes its own batches"
    return replace(knobs, can_tune_micro_batch=False, notes=(*knobs.notes, sentence))


def _why_stage_stays(config: Config, zero: Config, override: frozenset[Override]) -> str | None:
    """Why the ZeRO stage stays; None where it may be turned."""
    if config.get("gradient_allreduce_op") == "sum":  # DeepSpeed 0.19.8, DeepSpeedConfig._do_error_check
        return "the ZeRO stage stays: gradient_allreduce_op is sum, which not every stage has"
    if Override.STAGE in override or _is_open(zero, "stage"):
        return None
    return f"zero_optimization.stage stays {zero['stage']} as written{unless(Override.STAGE)}"


def _why_fixed(config: Config, override: frozenset[Override], flags: bool) -> str | None:
    """Why the micro-batch stays; None where it may be turned."""
    is_open = _is_open(config, MICRO_BATCH_KEY) and _is_open(config, ACCUMULATION_KEY)
    is_turned = is_open or Override.MICRO_BATCH in override
    if flags:
        mixed = "it stands both on the command line and as a number in the config"
        return None if is_turned else f"the micro-batch stays: {mixed}{unless(Override.MICRO_BATCH)}"
    if config.get(MICRO_BATCH_KEY) == AUTO or config.get(GLOBAL_BATCH_KEY) == AUTO:
        return "the micro-batch stays: give --per_device_train_batch_size on the command line to have it turned"
    if is_turned:
        return None
    if _is_open(config, MICRO_BATCH_KEY):
        return f"gradient accumulation stays as written, and the micro-batch with it{unless(Override.MICRO_BATCH)}"
    return f"the micro-batch stays {config[MICRO_BATCH_KEY]} as written{unless(Override.MICRO_BATCH)}"


def _is_open(section: Config, key: str) -> bool:
    return section.get(key) in (None, AUTO)


def unless(knob: Override) -> str:
    """What ends a sentence on a knob that stays."""
    return f" (--autofit-override {knob.value} turns it)"

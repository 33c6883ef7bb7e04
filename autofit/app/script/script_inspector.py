"""The first looks at a script: as it is, and where that leaves something open, as it needs least memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace

from autofit.app.script.script_specs import ScriptSpecs
from autofit.app.script.tunable_line import NotTuned
from autofit.domain.errors import NothingFits
from autofit.domain.event import Tell
from autofit.domain.knobs.attention import Attention, runs_flash
from autofit.domain.model import ModelShape
from autofit.domain.outcome import Measured, Outcome, OutOfMemory, Phase, Unsupported
from autofit.domain.script import ScriptFacts
from autofit.domain.strategy import Strategy
from autofit.hardware.requirements import installed_here
from autofit.inputs.model_config import read_shape
from autofit.planning.script.config_rewriter import ConfigRewriter
from autofit.planning.script.held_knobs import hold_knobs
from autofit.planning.script.inspection import complete_facts, leanest, needs_second_look, preferred_attention
from autofit.planning.script.script_setting import guessed_shape, own_strategy
from autofit.planning.script.step_count import keep_steps
from autofit.planning.script.ties import keep_tied
from autofit.planning.script.tunable_knobs import keep_flagless, tunable_knobs
from autofit.report.outcome_text import verdict_text


@dataclass(frozen=True)
class ScriptAsIs:
    """The script as it is: what it showed, and how its probe ended."""

    facts: ScriptFacts
    shape: ModelShape
    outcome: Outcome


@dataclass(frozen=True)
class Inspection:
    """What all looks came to; `tried` are the strategies that were seen on the way."""

    rewriter: ConfigRewriter
    attention: Attention
    tried: tuple[tuple[Strategy, Outcome], ...]


class ScriptInspector:
    """Looks at a script; `tell` hears what each look showed."""

    def __init__(self, specs: ScriptSpecs, tell: Tell) -> None:
        self._specs, self._context, self._tell = specs, specs.context, tell

    def inspect_as_is(self) -> ScriptAsIs:
        """Looks at the script as it is; NotTuned when it does not come to an optimizer step for a reason that is not
        memory."""
        self._tell("the script as it is, for a few steps")
        outcome, facts = self._context.prober.inspect(self._specs.own(), _nobody)
        log = f"(log: {self._specs.folder.logs / 'probe-own.log'})"
        if isinstance(outcome, OutOfMemory) and facts is None:
            self._tell(f"it runs out of memory before deepspeed.initialize, where no configuration can help {log}")
            raise NothingFits
        if not isinstance(outcome, (Measured, OutOfMemory)) or facts is None:
            why = outcome.why if isinstance(outcome, Unsupported) else verdict_text(outcome)
            raise NotTuned(f"{why} {log}: it runs as it is, unsearched.")
        self._tell_escapes(facts)
        self._tell(f"as it is: {own_strategy(facts)}, {verdict_text(outcome, self._device_bytes)}")
        return ScriptAsIs(facts, _shape(facts), outcome)

    def measure_again(self, own: ScriptAsIs) -> ScriptAsIs:
        """The script as it is with more steps measured; as it was where it does not come to its end this time."""
        outcome, _ = self._context.prober.inspect(self._specs.own_again(), _nobody)
        self._tell(f"your own configuration once more: {verdict_text(outcome, self._device_bytes)}")
        return replace(own, outcome=outcome) if isinstance(outcome, Measured) else own

    def inspect_knobs(
        self, own: ScriptAsIs, is_worth_more: Callable[[Inspection], bool] = lambda known: True
    ) -> Inspection:
        """What may be turned, once a second look has shown what the first left open; `is_worth_more` says whether that
        is worth the look."""
        tunable, hardware, facts = self._specs.tunable, self._context.hardware, own.facts
        arguments = tunable.line.arguments
        knobs = tunable_knobs(tunable.config, arguments, tunable.settings.override)
        knobs = keep_flagless(keep_tied(hold_knobs(knobs, facts), facts), arguments, facts)
        if isinstance(own.outcome, Measured):  # otherwise it may not have come to where it shows how it counts
            knobs = keep_steps(knobs, facts)
        attention = preferred_attention(facts, runs_flash(hardware, facts.dtype, installed_here()))
        rewriter = ConfigRewriter(tunable.config, arguments, knobs, facts, own.shape.hidden_size, hardware.kind)
        tried = ((own_strategy(facts), own.outcome),) if isinstance(own.outcome, Measured) else ()
        known = Inspection(rewriter, attention, tried)
        if needs_second_look(facts, knobs, attention) and is_worth_more(known):
            known = self._looked_at_again(known)
        rewriter = known.rewriter
        knobs = hold_knobs(keep_steps(rewriter.knobs, rewriter.facts), rewriter.facts)
        return replace(known, rewriter=replace(rewriter, knobs=knobs))

    def _looked_at_again(self, known: Inspection) -> Inspection:
        facts = known.rewriter.facts
        lean = self._lean(known)
        if lean is None and facts.attention not in (None, known.attention):  # the model does not have the other kernel
            known = replace(known, attention=facts.attention)
            lean = self._lean(known)
        return lean or known

    def _lean(self, known: Inspection) -> Inspection | None:
        """What the script shows with the least memory; None when it does not run so at all."""
        rewriter = known.rewriter
        strategy = leanest(rewriter.facts, rewriter.knobs, known.attention)
        outcome, seen = self._context.prober.inspect(replace(self._specs, rewriter=rewriter).lean(strategy), _nobody)
        self._tell(f"with the least memory: {strategy}, {verdict_text(outcome, self._device_bytes)}")
        if seen is None or not isinstance(outcome, (Measured, OutOfMemory)):
            return None
        facts, knobs = complete_facts(rewriter.facts, rewriter.knobs, seen)
        # Otherwise its batches were not those of the strategy.
        is_so = knobs.can_tune_micro_batch == rewriter.knobs.can_tune_micro_batch
        tried = (*known.tried, (strategy, outcome)) if is_so else known.tried
        return Inspection(replace(rewriter, knobs=knobs, facts=facts), known.attention, tried)

    def _tell_escapes(self, facts: ScriptFacts) -> None:
        if facts.escaped:
            self._tell(f"a probe changed these for real, and they are left so: {', '.join(facts.escaped)}")

    @property
    def _device_bytes(self) -> int:
        return self._context.hardware.device_memory_bytes


def _shape(facts: ScriptFacts) -> ModelShape:
    counted = sum(group.element_count * group.tensor_count for group in facts.parameters)
    config = facts.model_config
    known = None if config is None else read_shape(facts.model_class, json.loads(config), counted)
    return known or guessed_shape(facts)


def _nobody(phase: Phase) -> None:
    """Nobody watches a first look."""

"""The first looks at a script: as it is, and where that leaves something open, as it needs least memory."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from autofit.domain.errors import NothingFits, UsageError
from autofit.domain.event import Note, Screen
from autofit.domain.knobs.attention import Attention, runs_flash
from autofit.domain.model import ModelShape
from autofit.domain.outcome import Measured, Outcome, OutOfMemory, Phase, Unsupported
from autofit.domain.script import ScriptFacts
from autofit.domain.strategy import Strategy
from autofit.hardware.model_config import read_shape
from autofit.hardware.requirements import installed_here
from autofit.launch_scene import NotTuned, Stage
from autofit.planning.first_look import after_look, is_needed, leanest, wished_attention
from autofit.planning.freedom import freedom
from autofit.planning.holding import holding
from autofit.planning.own_strategy import own_strategy
from autofit.planning.script_setting import guessed_shape
from autofit.planning.step_count import keeping_steps
from autofit.planning.turning import Turning
from autofit.report.verdict import verdict_text
from autofit.script_spec import ScriptSpecs


@dataclass(frozen=True)
class Own:
    """The script as it is: what it showed, and how its probe ended."""

    facts: ScriptFacts
    shape: ModelShape
    outcome: Outcome


@dataclass(frozen=True)
class Known:
    """What all looks came to; `tried` are the strategies that were seen on the way."""

    turning: Turning
    attention: Attention
    tried: tuple[tuple[Strategy, Outcome], ...]


class Looks:
    def __init__(self, specs: ScriptSpecs, where: Stage, screen: Screen) -> None:
        self._specs, self._where, self._screen = specs, where, screen

    def own(self) -> Own:
        """NotTuned when the script does not come to an optimizer step for a reason that is not memory."""
        self._say("the script as it is, for a few steps")
        outcome, facts = self._where.prober.look(self._specs.own(), _nobody)
        log = f"(log: {self._specs.folder.logs / 'probe-own.log'})"
        if isinstance(outcome, OutOfMemory) and facts is None:
            self._say(f"it runs out of memory before deepspeed.initialize, where no configuration can help {log}")
            raise NothingFits
        if not isinstance(outcome, (Measured, OutOfMemory)) or facts is None:
            why = outcome.why if isinstance(outcome, Unsupported) else verdict_text(outcome)
            raise NotTuned(f"{why} {log}: it runs as it is, unsearched.")
        self._tell_escapes(facts)
        self._say(f"as it is: {own_strategy(facts)}, {verdict_text(outcome, self._device_bytes)}")
        return Own(facts, _shape(facts), outcome)

    def known(self, own: Own) -> Known:
        """What may be turned, once a second look has shown what the first left open."""
        program, facts = self._specs.program, own.facts
        free = freedom(program.config, program.line.arguments, self._specs.settings.override)
        free = holding(free, facts)
        if isinstance(own.outcome, Measured):  # otherwise it may not have come to where it shows how it counts
            free = keeping_steps(free, facts)
        attention = wished_attention(facts, runs_flash(self._where.hardware, facts.dtype, installed_here()))
        turning = Turning(program.config, program.line.arguments, free, facts, own.shape.hidden_size, program.kind)
        tried = ((own_strategy(facts), own.outcome),) if isinstance(own.outcome, Measured) else ()
        known = Known(turning, attention, tried)
        if is_needed(facts, free, attention):
            known = self._looked_at_again(known)
        turning = known.turning
        free = holding(keeping_steps(turning.free, turning.facts), turning.facts)
        return replace(known, turning=replace(turning, free=free))

    def _looked_at_again(self, known: Known) -> Known:
        facts = known.turning.facts
        lean = self._lean(known)
        if lean is None and known.attention is not facts.attention:  # the model does not have the other kernel
            known = replace(known, attention=facts.attention or Attention.SDPA)
            lean = self._lean(known)
        return lean or known

    def _lean(self, known: Known) -> Known | None:
        """What the script shows with the least memory; None when it does not run so at all."""
        turning = known.turning
        strategy = leanest(turning.facts, turning.free, known.attention)
        outcome, seen = self._where.prober.look(replace(self._specs, turning=turning).lean(strategy), _nobody)
        self._say(f"with the least memory: {strategy}, {verdict_text(outcome, self._device_bytes)}")
        if seen is None or not isinstance(outcome, (Measured, OutOfMemory)):
            return None
        facts, free = after_look(turning.facts, turning.free, seen)
        is_so = free.micro_batch == turning.free.micro_batch  # otherwise its batches were not those of the strategy
        tried = (*known.tried, (strategy, outcome)) if is_so else known.tried
        return Known(replace(turning, free=free, facts=facts), known.attention, tried)

    def _tell_escapes(self, facts: ScriptFacts) -> None:
        if facts.escaped:
            self._say(f"a probe changed these for real, and they are left so: {', '.join(facts.escaped)}")

    @property
    def _device_bytes(self) -> int:
        return self._where.hardware.device_memory_bytes

    def _say(self, text: str) -> None:
        self._screen.show(Note(text))


def _shape(facts: ScriptFacts) -> ModelShape:
    counted = sum(group.element_count * group.tensor_count for group in facts.parameters)
    if facts.model_config is None:
        return guessed_shape(facts)
    try:
        return read_shape(facts.model_class, json.loads(facts.model_config), counted)
    except UsageError:  # no causal language model
        return guessed_shape(facts)


def _nobody(phase: Phase) -> None:
    """Nobody watches a first look."""

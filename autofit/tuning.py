"""The story of the drop-in: a line of `deepspeed` → the script as it is → what may be turned → the search → the same
line with the configuration that was chosen."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from autofit.domain.errors import NothingFits, UsageError
from autofit.domain.event import Chosen, GaveUp, MachineSeen, ModelRead, Note, Screen
from autofit.domain.hardware import DeviceKind
from autofit.domain.ladder import Ladder
from autofit.domain.launch import Decision, Kept, LaunchLine, LaunchSettings
from autofit.domain.model import ModelShape
from autofit.domain.outcome import Measured, Outcome, OutOfMemory, Phase, Unsupported
from autofit.domain.script import ScriptFacts
from autofit.domain.strategy import Attention, Strategy
from autofit.domain.trial import Choice, GiveUp, Trial
from autofit.domain.workload import DataProfile
from autofit.foresight import has_flash_here
from autofit.hardware.model_config import read_shape
from autofit.launch_scene import NotTuned, Stage, identity, machine_here, read_config, stage
from autofit.planning.capability import supported_attention
from autofit.planning.first_look import after_look, is_needed, leanest, wished_attention
from autofit.planning.fit import fits
from autofit.planning.freedom import Config, freedom, missing_knobs, pins_of
from autofit.planning.ladder import build_ladder
from autofit.planning.own_strategy import own_strategy
from autofit.planning.script_setting import guessed_shape, script_request, script_setting
from autofit.planning.setting import Setting
from autofit.planning.turning import Turning
from autofit.report.html import report_html
from autofit.report.run_folder import RunFolder
from autofit.report.verdict import verdict_text
from autofit.running.start import command_script, starting_words
from autofit.script_spec import Program, ScriptSpecs, ScriptTries
from autofit.searching import Ended, Searching
from autofit.store.machine_kind import DeviceKey
from autofit.store.trial_key import TrialKey
from autofit.store.versions import versions
from autofit.tools import REAL_TOOLS, Tools

_ENOUGH = 0.99
"""Of the choice's speed: the user's own configuration is kept when it reaches it."""


def tune(line: LaunchLine, settings: LaunchSettings, *, screen: Screen, tools: Tools = REAL_TOOLS) -> tuple[str, ...]:
    """What follows `deepspeed` when the line is started. The machine is free again when it returns.

    NotTuned where there is nothing to search or nothing to go by, NothingFits when no configuration does, HostFailed
    when a host cannot take part.
    """
    config = read_config(line, settings)
    root = settings.output_dir or os.path.join("autofit-runs", Path(line.script).stem)
    folder = RunFolder(Path(root).absolute())
    with folder.lock():
        here = machine_here(tools, settings, folder.root)
        key = identity(line, config, settings, here)
        kept = folder.read_kept()
        if kept is not None and kept.key == key:
            decision = kept.decision
            screen.show(Note(f"{decision.text}: kept in {folder.root}; another --autofit-output-dir searches anew"))
        else:
            if folder.exists:
                folder.archive()
            decision = _searched(line, config, settings, here.kind, folder, key, screen, tools)
            folder.write_kept(Kept(key, decision))
        words = starting_words(line, decision, memory_limit_bytes=settings.memory_limit_bytes, kind=here.kind)
        folder.write_command(command_script(words, os.getcwd()))
        return words


def _searched(
    line: LaunchLine,
    config: Config,
    settings: LaunchSettings,
    kind: DeviceKind,
    folder: RunFolder,
    key: str,
    screen: Screen,
    tools: Tools,
) -> Decision:
    with (
        stage(line, settings, folder, kind, tools) as where,
        tempfile.TemporaryDirectory(prefix="autofit-script-") as scratch,
    ):
        screen.show(MachineSeen(where.hardware))
        program = Program(line, config, where.layout, kind, os.getcwd())
        specs = ScriptSpecs(program, settings, where.prober, folder, Path(scratch))
        return _Tuning(specs, where, screen, tools).run(key)


@dataclass(frozen=True)
class _Own:
    """The script as it is: what it showed, and how its probe ended."""

    facts: ScriptFacts
    outcome: Outcome


@dataclass(frozen=True)
class _Known:
    """What the looks at the script came to; `tried` are the strategies that were seen on the way."""

    turning: Turning
    attention: Attention
    tried: tuple[tuple[Strategy, Outcome], ...]


class _Tuning:
    """Of one line, while its agents run."""

    def __init__(self, specs: ScriptSpecs, where: Stage, screen: Screen, tools: Tools) -> None:
        self._specs, self._where, self._screen, self._tools = specs, where, screen, tools
        self._folder, self._program = specs.folder, specs.program

    def run(self, key: str) -> Decision:
        own = self._look()
        shape = _shape(own.facts)
        self._screen.show(ModelRead(shape))
        known = self._know(own, shape)
        for sentence in (*known.turning.free.kept, *missing_knobs(own.facts)):
            self._say(sentence)
        setting, ladder = self._ladder(known, shape, key)
        ended = self._search(known, setting, ladder)
        if isinstance(ended.action, GiveUp):
            self._give_up(ended.action, ended.trials)
        self._screen.show(Chosen.after(ended.trials, ended.action.choice, ended.decided_s))
        return self._decided(ended.action.choice, own, known.turning)

    def _look(self) -> _Own:
        """NotTuned when the script does not come to an optimizer step for a reason that is not memory."""
        self._say("the script as it is, for a few steps")
        outcome, facts = self._where.prober.look(self._specs.own(), _nobody)
        log = f"(log: {self._folder.logs / 'probe-own.log'})"
        if isinstance(outcome, OutOfMemory) and facts is None:
            self._say(f"it runs out of memory before deepspeed.initialize, where no configuration can help {log}")
            raise NothingFits
        if not isinstance(outcome, (Measured, OutOfMemory)) or facts is None:
            why = outcome.why if isinstance(outcome, Unsupported) else verdict_text(outcome)
            raise NotTuned(f"{why} {log}: it runs as it is, unsearched.")
        self._say(f"as it is: {own_strategy(facts)}, {verdict_text(outcome, self._device_bytes)}")
        return _Own(facts, outcome)

    def _know(self, own: _Own, shape: ModelShape) -> _Known:
        """What may be turned, once a second look has shown what the first left open."""
        program, facts = self._program, own.facts
        free = freedom(program.config, program.line.arguments, self._specs.settings.override)
        flash = supported_attention(self._where.hardware, facts.dtype, has_flash_here())[0]
        attention = wished_attention(facts, flash is Attention.FLASH_2)
        turning = Turning(program.config, program.line.arguments, free, facts, shape.hidden_size, program.kind)
        tried = ((own_strategy(facts), own.outcome),) if isinstance(own.outcome, Measured) else ()
        known = _Known(turning, attention, tried)
        if not is_needed(facts, free, attention):
            return known
        lean = self._lean(known)
        if lean is None and attention is not facts.attention:  # the model does not have the other kernel
            known = replace(known, attention=facts.attention or Attention.SDPA)
            lean = self._lean(known)
        return lean or known

    def _lean(self, known: _Known) -> _Known | None:
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
        return _Known(replace(turning, free=free, facts=facts), known.attention, tried)

    def _ladder(self, known: _Known, shape: ModelShape, key: str) -> tuple[Setting, Ladder]:
        facts, hardware = known.turning.facts, self._where.hardware
        request = script_request(
            Path(self._program.line.script).name,
            facts,
            pins_of(known.turning.free, facts, known.attention),
            memory_limit_bytes=self._specs.settings.memory_limit_bytes,
            identity=(key,),
        )
        self._folder.write_request(request)
        self._folder.write_hardware(hardware)
        with self._tools.open_store() as store:
            constants = store.get_constants(DeviceKey.of(hardware.devices[0], versions()))
        setting = script_setting(request, facts, shape, hardware, constants)
        return setting, build_ladder(setting, (known.attention,), (facts.dtype,))

    def _search(self, known: _Known, setting: Setting, ladder: Ladder) -> Ended:
        key = TrialKey.of(setting.request, setting.shape, _profile(setting), setting.hardware, versions())
        on_ladder = {strategy for step in ladder.steps for strategy in step.strategies}
        for strategy, outcome in known.tried:
            if strategy in on_ladder:
                self._folder.append_trial(Trial(strategy, ladder.estimate(strategy), outcome))
        tries = ScriptTries(replace(self._specs, turning=known.turning))
        with self._tools.open_store() as store:
            searching = Searching(
                setting, ladder, self._folder, self._screen, tries,
                remembered=store.recall(key), keep=lambda trial: store.remember(trial, key),
            )  # fmt: skip
            return searching.run(is_exhaustive=False)

    def _give_up(self, action: GiveUp, trials: tuple[Trial, ...]) -> NoReturn:
        """NothingFits, but where something else than memory kept the probes from their end."""
        self._folder.write_report(report_html(self._folder.record()))
        if not all(isinstance(trial.outcome, (Measured, OutOfMemory)) for trial in trials):
            raise NotTuned(f"{action.why.rstrip('.')}: it runs as it is.")
        self._screen.show(GaveUp(replace(action, would_fit=())))  # what would help is known for `autofit train`
        raise NothingFits

    def _decided(self, choice: Choice, own: _Own, turning: Turning) -> Decision:
        """The user's own configuration when nothing is faster; it then starts as it was written."""
        self._folder.write_choice(choice)
        self._folder.write_report(report_html(self._folder.record()))
        has_autotuning = "autotuning" in self._program.config  # with which DeepSpeed ends the training early
        if _is_enough(own.outcome, choice, self._device_bytes) and not has_autotuning:
            decision = Decision("your own configuration is as fast as anything that fits")
        else:
            words = turning.trained(choice.strategy, str(self._folder.ds_config))
            self._where.put_file(self._folder.ds_config, words.config)
            text = f"{choice.strategy}, {choice.measured.tokens_per_s:,.0f} tokens/s{_gain(own.outcome, choice)}"
            flags = turning.flags(choice.strategy)
            decision = Decision(text, str(self._folder.ds_config), flags, words.turns)
        self._say(decision.text)
        return decision

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


def _profile(setting: Setting) -> DataProfile:
    """As the trials' key wants it: the script's data is seen through its batches alone."""
    return DataProfile("the script's own", "script", 0, 0, setting.worst_tokens, (setting.worst_tokens,))


def _is_enough(own: Outcome, choice: Choice, device_bytes: int) -> bool:
    if not isinstance(own, Measured) or not fits(own, device_bytes):
        return False
    return own.tokens_per_s >= _ENOUGH * choice.measured.tokens_per_s


def _gain(own: Outcome, choice: Choice) -> str:
    if not isinstance(own, Measured):
        return ", where yours runs out of memory"
    return f", {choice.measured.tokens_per_s / own.tokens_per_s:.2f} times as fast as yours"


def _nobody(phase: Phase) -> None:
    """Nobody watches a first look."""

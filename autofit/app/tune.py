"""The story of the drop-in: a line of `deepspeed` → the script as it is → what may be turned → the search → the same
line with the configuration that was chosen."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from autofit.app.launch_context import LaunchContext, NotTuned, identity, machine_here, open_launch_context, read_config
from autofit.app.script_inspector import Inspection, ScriptAsIs, ScriptInspector
from autofit.app.script_specs import Program, ScriptProbeRunner, ScriptSpecs
from autofit.app.search_loop import SearchLoop, SearchResult
from autofit.app.tools import REAL_TOOLS, Tools
from autofit.domain.deepspeed_line import Decision, Kept, LaunchLine, LaunchSettings, Loading
from autofit.domain.errors import NothingFits
from autofit.domain.event import Chosen, GaveUp, MachineSeen, ModelRead, Note, Screen, teller
from autofit.domain.hardware import DeviceKind
from autofit.domain.ladder import Ladder
from autofit.domain.model import ModelShape
from autofit.domain.outcome import Measured, Outcome, OutOfMemory
from autofit.domain.trial import Choice, GiveUp, Trial
from autofit.domain.workload import RowLengths
from autofit.inputs.script_checkpoint import read_checkpoint, to_make_universal
from autofit.planning.plan.fit import fits
from autofit.planning.script.config_rewriter import ConfigRewriter
from autofit.planning.script.held_knobs import is_loadable
from autofit.planning.script.script_setting import own_strategy, script_request, script_setting
from autofit.planning.script.step_count import overridden_steps
from autofit.planning.script.tunable_knobs import Config, missing_knobs, pins_of
from autofit.planning.setting import Setting
from autofit.planning.space.axes import as_pinned
from autofit.planning.space.ladder_builder import build_ladder
from autofit.probing.footprint import Footprint
from autofit.process.python import DEEPSPEED_MODULE, module_command
from autofit.report.html import report_html
from autofit.running.deepspeed_tools import make_universal
from autofit.running.script_command import command_script, starting_words
from autofit.runs.run_folder import RunFolder
from autofit.store.machine_kind import DeviceKey
from autofit.store.trial_key import TrialKey
from autofit.store.versions import versions

_ENOUGH = 0.99
"""Of the choice's speed: the user's own configuration is kept when it reaches it."""

_STAYS = "your own configuration stays: nothing that fits is faster"


def tune(line: LaunchLine, settings: LaunchSettings, *, screen: Screen, tools: Tools = REAL_TOOLS) -> tuple[str, ...]:
    """What follows `deepspeed` when the line is started. The machine is free again when it returns.

    NotTuned where there is nothing to search or nothing to go by, NothingFits when no configuration does, HostFailed
    when a host cannot take part.
    """
    config = read_config(line, settings)
    root = settings.output_dir or os.path.join("autofit-runs", Path(line.script).stem)
    folder = RunFolder(Path(root).absolute())

    tell = teller(screen)
    with folder.lock(tell):
        here = machine_here(tools, settings, folder.root)
        key = identity(line, config, settings, here)
        kept = folder.read_kept()
        if kept is not None and kept.key == key and _is_usable(kept.decision, folder):
            decision = kept.decision
            tell(f"{decision.text}: kept in {folder.root}; another --autofit-output-dir searches anew")
        else:
            if folder.exists:
                folder.archive(tell)
            decision = _searched(line, config, settings, here.kind, folder, key, screen, tools)
            folder.write_kept(Kept(key, decision))
        if not settings.is_dry_run:
            _make_universal(decision, config, folder, screen)
        words = starting_words(line, decision, memory_limit_bytes=settings.memory_limit_bytes)
        launcher = module_command(DEEPSPEED_MODULE)
        folder.write_command(command_script(launcher, words, os.getcwd(), folder.ds_config))
        return words


def _is_usable(decision: Decision, folder: RunFolder) -> bool:
    """Whether its config is there, and can load the checkpoint that has come to lie where the script looks for one."""
    if decision.config_path is not None and not folder.ds_config.is_file():
        return False
    loading = decision.loading
    checkpoint = None if loading is None else read_checkpoint(loading.folder)  # one made universal has its stages
    return loading is None or checkpoint is None or loading.zero_stage in checkpoint.zero_stages


def _make_universal(decision: Decision, config: Config, folder: RunFolder, screen: Screen) -> None:
    """Where the config asks for a universal checkpoint, and the script loads from where there is only another."""
    is_asked = (config.get("checkpoint") or {}).get("load_universal")
    found = to_make_universal(decision.loading.folder) if is_asked and decision.loading else None
    if found is None:
        return
    screen.show(Note(f"{found.path} is made universal beside itself, as checkpoint.load_universal wants it"))
    log_path = folder.logs / "universal.log"
    if not make_universal(found, log_path=log_path):
        screen.show(Note(f"it could not be made universal (log: {log_path})"))


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
        open_launch_context(line, settings, folder, kind, tools, teller(screen)) as context,
        tempfile.TemporaryDirectory(prefix="autofit-script-") as scratch,
    ):
        screen.show(MachineSeen(context.hardware))
        program = Program(line, config, context.layout, context.hardware.kind, os.getcwd())
        specs = ScriptSpecs(program, settings, context.prober, folder, Path(scratch))
        footprint = Footprint(Path.cwd(), ours=folder.root)
        try:
            return _Tuning(specs, context, screen, tools).run(key)
        finally:
            if changes := footprint.changes():
                screen.show(Note(f"changed while the probes ran, and left as it is: {', '.join(changes)}"))


class _Tuning:
    """Of one line, while its agents run."""

    def __init__(self, specs: ScriptSpecs, context: LaunchContext, screen: Screen, tools: Tools) -> None:
        self._specs, self._context, self._screen, self._tools = specs, context, screen, tools
        self._folder, self._program = specs.folder, specs.program

    def run(self, key: str) -> Decision:
        inspector = ScriptInspector(self._specs, self._context, self._screen)
        own = inspector.inspect_as_is()
        self._screen.show(ModelRead(own.shape))
        known = inspector.inspect_knobs(own)
        rewriter = known.rewriter
        for sentence in (
            *rewriter.knobs.kept,
            *overridden_steps(rewriter.knobs, rewriter.facts),
            *missing_knobs(own.facts),
        ):
            self._say(sentence)
        setting, ladder = self._ladder(known, own.shape, key)
        ended = self._search(known, setting, ladder)
        if isinstance(ended.action, GiveUp):
            self._give_up(ended.action, ended.trials)
        choice = ended.action.choice
        kept = self._own_choice(choice, own) if is_loadable(rewriter.knobs, own.facts) else None
        self._screen.show(Chosen.after(ended.trials, kept or choice, ended.decided_s))
        self._keep(kept or choice)
        return self._turned(choice, own, rewriter) if kept is None else self._as_written(kept, rewriter)

    def _ladder(self, known: Inspection, shape: ModelShape, key: str) -> tuple[Setting, Ladder]:
        facts, hardware = known.rewriter.facts, self._context.hardware
        request = script_request(
            Path(self._program.line.script).name,
            facts,
            pins_of(known.rewriter.knobs, facts, known.attention),
            memory_limit_bytes=self._specs.settings.memory_limit_bytes,
            identity=(key,),
        )
        self._folder.write_request(request)
        self._folder.write_hardware(hardware)
        with self._tools.open_store() as store:
            constants = store.get_constants(DeviceKey.of(hardware.devices[0], versions()))
        setting = script_setting(request, facts, shape, hardware, constants)
        return setting, build_ladder(setting, as_pinned(setting))

    def _search(self, known: Inspection, setting: Setting, ladder: Ladder) -> SearchResult:
        rows = RowLengths(setting.worst_tokens, setting.worst_tokens)  # its data is seen through its batches alone
        key = TrialKey.of(setting.request, setting.shape, rows, setting.hardware, versions())
        on_ladder = {strategy for step in ladder.steps for strategy in step.strategies}
        runner = ScriptProbeRunner(replace(self._specs, rewriter=known.rewriter))
        with self._tools.open_store() as store:
            loop = SearchLoop(
                setting, ladder, self._folder, self._screen, runner,
                remembered=store.recall(key), tried=[one for one in known.tried if one[0] in on_ladder],
                keep=lambda trial: store.remember(trial, key),
            )  # fmt: skip
            return loop.run(is_exhaustive=False)

    def _give_up(self, action: GiveUp, trials: tuple[Trial, ...]) -> NoReturn:
        """NothingFits, but where something else than memory kept the probes from their end."""
        self._folder.write_report(report_html(self._folder.record()))
        if not all(isinstance(trial.outcome, (Measured, OutOfMemory)) for trial in trials):
            raise NotTuned(f"{action.why.rstrip('.')}: it runs as it is.")
        self._screen.show(GaveUp(replace(action, would_fit=())))  # what would help is known for `autofit train`
        raise NothingFits

    def _own_choice(self, choice: Choice, own: ScriptAsIs) -> Choice | None:
        """The user's own configuration; None where something that fits is faster."""
        if "autotuning" in self._program.config:  # with it DeepSpeed ends the training early
            return None
        if not isinstance(own.outcome, Measured) or not fits(own.outcome, self._device_bytes):
            return None
        if own.outcome.tokens_per_s < _ENOUGH * choice.measured.tokens_per_s:
            return None
        return Choice(own_strategy(own.facts), own.outcome, _STAYS, choice.unprobed)

    def _keep(self, choice: Choice) -> None:
        self._folder.write_choice(choice)
        self._folder.write_report(report_html(self._folder.record()))

    def _as_written(self, choice: Choice, rewriter: ConfigRewriter) -> Decision:
        """The user's own configuration starts with the user's own config."""
        return Decision(_STAYS, self._program.kind, loading=_loading(choice, rewriter))

    def _turned(self, choice: Choice, own: ScriptAsIs, rewriter: ConfigRewriter) -> Decision:
        words = rewriter.trained(choice.strategy, str(self._folder.ds_config))
        self._context.prober.put_file(self._folder.ds_config, words.config)
        text = f"{choice.strategy}, {choice.measured.tokens_per_s:,.0f} tokens/s{_gain(own.outcome, choice)}"
        self._say(text)
        flags, loading = rewriter.flags(choice.strategy), _loading(choice, rewriter)
        return Decision(text, self._program.kind, str(self._folder.ds_config), flags, words.turns, loading)

    @property
    def _device_bytes(self) -> int:
        return self._context.hardware.device_memory_bytes

    def _say(self, text: str) -> None:
        self._screen.show(Note(text))


def _loading(choice: Choice, rewriter: ConfigRewriter) -> Loading | None:
    folder = rewriter.facts.loads_from
    return None if folder is None else Loading(folder, choice.strategy.rung.zero_stage)


def _gain(own: Outcome, choice: Choice) -> str:
    if not isinstance(own, Measured):
        return ", where yours runs out of memory"
    return f", {choice.measured.tokens_per_s / own.tokens_per_s:.2f} times as fast as yours"

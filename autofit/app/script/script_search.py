"""The search of a script's configuration: looked at as it is, probed with its agents, and decided."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from autofit.app.context import Session
from autofit.app.script.launch_context import open_launch_context
from autofit.app.script.script_inspector import Inspection, ScriptAsIs, ScriptInspector
from autofit.app.script.script_specs import ScriptProbeRunner, ScriptSpecs
from autofit.app.script.tunable_line import NotTuned, TunableLine
from autofit.app.search_loop import SearchLoop, SearchResult, SearchSpace
from autofit.app.trial_memory import TrialMemory, known_constants
from autofit.domain.deepspeed_line import Decision, Loading
from autofit.domain.errors import NothingFits
from autofit.domain.event import Chosen, GaveUp, MachineSeen, ModelRead
from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Measured, Outcome, OutOfMemory
from autofit.domain.trial import Choice, GiveUp, Trial
from autofit.domain.workload import RowLengths
from autofit.planning.plan.fit import fits
from autofit.planning.script.config_rewriter import ConfigRewriter
from autofit.planning.script.held_knobs import is_loadable
from autofit.planning.script.script_setting import own_strategy, script_request, script_setting
from autofit.planning.script.step_count import overridden_steps
from autofit.planning.script.tunable_knobs import missing_knobs, pins_of
from autofit.planning.space.axes import as_pinned
from autofit.planning.space.ladder_builder import build_ladder
from autofit.probing.folder_snapshot import FolderSnapshot
from autofit.store import Store

_ENOUGH = 0.99
"""The share of the choice's speed at which the user's own configuration is kept."""

_STAYS = "your own configuration stays: nothing that fits is faster"


def search_script(tunable: TunableLine, session: Session, *, kind: DeviceKind, key: str) -> Decision:
    """Searches, and frees the machine, whose devices are of `kind`, before it returns; `key` is the line's identity.

    NotTuned where there is nothing to go by, NothingFits when no configuration does, HostFailed when a host cannot
    take part.
    """
    with (
        open_launch_context(tunable, session, kind) as context,
        tempfile.TemporaryDirectory(prefix="autofit-script-") as scratch,
    ):
        session.screen.show(MachineSeen(context.hardware))
        specs = ScriptSpecs(tunable, context, session.folder, Path(scratch))
        snapshot = FolderSnapshot(Path.cwd(), ours=session.folder.root)
        try:
            return _ScriptSearch(specs, session).run(key)
        finally:
            if changes := snapshot.changes():
                session.tell(f"changed while the probes ran, and left as it is: {', '.join(changes)}")


class _ScriptSearch:
    """The search for one line, while its agents run."""

    def __init__(self, specs: ScriptSpecs, session: Session) -> None:
        self._specs, self._session = specs, session
        self._hardware, self._folder = specs.context.hardware, session.folder

    def run(self, key: str) -> Decision:
        inspector = ScriptInspector(self._specs, self._session.tell)
        own = inspector.inspect_as_is()
        self._session.screen.show(ModelRead(own.shape))
        known = inspector.inspect_knobs(own)
        self._tell_limits(own, known.rewriter)
        ended = self._search(own, known, key)
        if isinstance(ended.action, GiveUp):
            self._give_up(ended.action, ended.trials)
        choice = ended.action.choice
        kept = self._own_choice(choice, own) if is_loadable(known.rewriter.knobs, own.facts) else None
        self._session.screen.show(Chosen.after(ended.trials, kept or choice, ended.decided_s))
        self._folder.write_choice(kept or choice)
        self._session.write_report()
        return self._turned(choice, own, known.rewriter) if kept is None else self._as_written(kept, known.rewriter)

    def _tell_limits(self, own: ScriptAsIs, rewriter: ConfigRewriter) -> None:
        """Tells what stays as it is, and why."""
        for sentence in (
            *rewriter.knobs.notes,
            *overridden_steps(rewriter.knobs, rewriter.facts),
            *missing_knobs(own.facts),
        ):
            self._session.tell(sentence)

    def _search(self, own: ScriptAsIs, known: Inspection, key: str) -> SearchResult:
        runner = ScriptProbeRunner(replace(self._specs, rewriter=known.rewriter))
        with self._session.tools.open_store() as store:
            space = self._space(own, known, key, store)
            worst_tokens = space.setting.worst_tokens  # its data is seen through its batches alone
            memory = TrialMemory.of(space.setting, RowLengths(worst_tokens, worst_tokens), store)
            return SearchLoop(space, runner, self._session, memory).run(is_exhaustive=False)

    def _space(self, own: ScriptAsIs, known: Inspection, key: str, store: Store) -> SearchSpace:
        facts, tunable = known.rewriter.facts, self._specs.tunable
        request = script_request(
            tunable.name,
            facts,
            pins_of(known.rewriter.knobs, facts, known.attention),
            memory_limit_bytes=tunable.settings.memory_limit_bytes,
            identity=(key,),
        )
        self._folder.write_request(request)
        self._folder.write_hardware(self._hardware)
        setting = script_setting(request, facts, own.shape, self._hardware, known_constants(self._hardware, store))
        ladder = build_ladder(setting, as_pinned(setting))
        on_ladder = {strategy for step in ladder.steps for strategy in step.strategies}
        return SearchSpace(setting, ladder, tried=tuple(one for one in known.tried if one[0] in on_ladder))

    def _give_up(self, action: GiveUp, trials: tuple[Trial, ...]) -> NoReturn:
        """Raises NothingFits, or NotTuned where something else than memory kept the probes from their end."""
        self._session.write_report()
        if not all(isinstance(trial.outcome, (Measured, OutOfMemory)) for trial in trials):
            raise NotTuned(f"{action.why.rstrip('.')}: it runs as it is.")
        self._session.screen.show(GaveUp(replace(action, would_fit=())))  # what would help is for `autofit train`
        raise NothingFits

    def _own_choice(self, choice: Choice, own: ScriptAsIs) -> Choice | None:
        """The user's own configuration; None where something that fits is faster."""
        if "autotuning" in self._specs.tunable.config:  # with it DeepSpeed ends the training early
            return None
        if not isinstance(own.outcome, Measured) or not fits(own.outcome, self._hardware.device_memory_bytes):
            return None
        if own.outcome.tokens_per_s < _ENOUGH * _measured(choice).tokens_per_s:
            return None
        return Choice(own_strategy(own.facts), own.outcome, _STAYS, choice.unprobed)

    def _as_written(self, choice: Choice, rewriter: ConfigRewriter) -> Decision:
        """The decision for the user's own configuration, which starts with the user's own config."""
        return Decision(_STAYS, self._hardware.kind, loading=_loading(choice, rewriter))

    def _turned(self, choice: Choice, own: ScriptAsIs, rewriter: ConfigRewriter) -> Decision:
        """The decision for the choice, which starts with a config of its own, on every node."""
        path = self._folder.ds_config
        words = rewriter.trained(choice.strategy, str(path))
        self._specs.context.prober.put_file(path, words.config)
        text = f"{choice.strategy}, {_measured(choice).tokens_per_s:,.0f} tokens/s{_gain(own.outcome, choice)}"
        self._session.tell(text)
        flags, loading = rewriter.flags(choice.strategy), _loading(choice, rewriter)
        return Decision(text, self._hardware.kind, str(path), flags, words.patches, loading)


def _loading(choice: Choice, rewriter: ConfigRewriter) -> Loading | None:
    folder = rewriter.facts.loads_from
    return None if folder is None else Loading(folder, choice.strategy.rung.zero_stage)


def _measured(choice: Choice) -> Measured:
    assert choice.measured is not None  # nobody traces a script, and so nothing of it is sure to fit
    return choice.measured


def _gain(own: Outcome, choice: Choice) -> str:
    if not isinstance(own, Measured):
        return ", where yours runs out of memory"
    return f", {_measured(choice).tokens_per_s / own.tokens_per_s:.2f} times as fast as yours"

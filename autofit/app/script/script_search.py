"""The search of a script's configuration: looked at as it is, probed with its agents, and decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from autofit.app.context import Session
from autofit.app.script.launch_context import open_launch_context
from autofit.app.script.own_choice import STAYS, OwnConfiguration
from autofit.app.script.script_inspector import Inspection, ScriptAsIs, ScriptInspector
from autofit.app.script.script_specs import ScriptProbeRunner, ScriptSpecs
from autofit.app.script.tunable_line import NotTuned, TunableLine
from autofit.app.search_loop import SearchLoop, SearchResult
from autofit.app.search_space import SearchSpace
from autofit.app.trial_memory import TrialMemory, known_constants
from autofit.domain.errors import NothingFits
from autofit.domain.event import Chosen, GaveUp, MachineSeen, ModelRead
from autofit.domain.goal import Certainty, Goal, TimeToEnd
from autofit.domain.hardware import DeviceKind
from autofit.domain.line_decision import Decision, Loading, Settled
from autofit.domain.outcome import Measured, Outcome, OutOfMemory
from autofit.domain.request import Request
from autofit.domain.script import ScriptFacts
from autofit.domain.training_length import TrainingLength
from autofit.domain.trial import Choice, Choose, GiveUp, Trial
from autofit.domain.workload import RowLengths
from autofit.planning.script.config_rewriter import ConfigRewriter
from autofit.planning.script.script_setting import script_request, script_setting
from autofit.planning.script.step_count import overridden_steps
from autofit.planning.script.ties import overridden_tie
from autofit.planning.script.training_length import epoch_steps, length_text, rest_of, training_length
from autofit.planning.script.tunable_knobs import missing_knobs, pins_of
from autofit.planning.search.warm_start import decide_with_warm_start
from autofit.planning.space.axes import as_pinned
from autofit.planning.space.ladder_builder import build_ladder
from autofit.probing.folder_snapshot import FolderSnapshot
from autofit.process.temporary_folder import temporary_folder
from autofit.store import Store


@dataclass(frozen=True)
class ScriptChoice:
    """What a search came to; `looked_s` is when the script had been looked at, by the clock of who asked."""

    decision: Decision
    settled: Settled
    looked_s: float


def search_script(
    tunable: TunableLine, session: Session, *, kind: DeviceKind, key: str, since_s: Callable[[], float]
) -> ScriptChoice:
    """Searches, and frees the machine, whose devices are of `kind`, before it returns; `key` is the line's identity,
    and `since_s` tells the seconds since the command.

    NotTuned where there is nothing to go by, NothingFits when no configuration does, HostFailed when a host cannot
    take part.
    """
    with (
        open_launch_context(tunable, session, kind) as context,
        temporary_folder("autofit-script-") as scratch,
    ):
        session.screen.show(MachineSeen(context.hardware))
        specs = ScriptSpecs(tunable, context, session.folder, scratch)
        snapshot = FolderSnapshot(Path.cwd(), ours=session.folder.root)
        try:
            return _ScriptSearch(specs, session, since_s).run(key)
        finally:
            if changes := snapshot.changes():
                session.tell(f"changed while the probes ran, and left as it is: {', '.join(changes)}")


@dataclass(frozen=True)
class _Course:
    """What one search begins with. `rest` is what is left of the training, which ends the search early; unknown where
    certainty is asked for."""

    own: OwnConfiguration
    key: str
    rest: TrainingLength
    goal: Goal


class _ScriptSearch:
    """The search for one line, while its agents run."""

    def __init__(self, specs: ScriptSpecs, session: Session, since_s: Callable[[], float]) -> None:
        self._specs, self._session, self._since_s = specs, session, since_s
        self._hardware, self._folder = specs.context.hardware, session.folder

    def run(self, key: str) -> ScriptChoice:
        inspector = ScriptInspector(self._specs, self._session.tell)
        own = inspector.inspect_as_is()
        self._session.screen.show(ModelRead(own.shape))
        length = training_length(self._specs.tunable.said, self._specs.tunable.config, own.facts)
        self._session.tell(length_text(length))
        course = self._course(own, key, rest_of(length, own.facts))
        known = inspector.inspect_knobs(own, lambda known: self._is_worth_more(known, course))
        looked_s = self._since_s()
        self._folder.write_request(self._request(known, course))
        self._folder.write_hardware(self._hardware)
        self._tell_limits(own, known.rewriter)
        choice, decision = self._decided(known, course, inspector)
        return ScriptChoice(decision, self._settled(length, choice, known.rewriter.facts), looked_s)

    def _course(self, own: ScriptAsIs, key: str, rest: TrainingLength) -> _Course:
        tunable = self._specs.tunable
        configuration = OwnConfiguration(own, "autotuning" in tunable.config, self._hardware.device_memory_bytes)
        if tunable.settings.tolerance is not None:
            return _Course(configuration, key, TrainingLength(), Certainty(tunable.settings.tolerance))
        return _Course(configuration, key, rest, TimeToEnd(rest.step_count))

    def _settled(self, length: TrainingLength, choice: Choice, facts: ScriptFacts) -> Settled:
        tunable = self._specs.tunable
        return Settled(tunable.said, length, tunable.settings.tolerance, choice.reach_s, epoch_steps(facts))

    def _is_worth_more(self, known: Inspection, course: _Course) -> bool:
        """Whether anything could pay after what was seen, if all that is open could be turned."""
        if not isinstance(course.own.as_is.outcome, Measured):
            return True  # what does not fit has to be mended, whatever it costs
        if course.own.if_nothing_pays(course.rest, known) is not None:
            return False
        with self._session.tools.open_store() as store:
            space = self._space(known, course, store)
            trials = [Trial(strategy, space.ladder.estimate(strategy), outcome) for strategy, outcome in space.tried]
            remembered = self._memory(space, store).recall()
        action = decide_with_warm_start(space.ladder, remembered, trials, space.setting, space.goal)
        return not isinstance(action, Choose)

    def _decided(self, known: Inspection, course: _Course, inspector: ScriptInspector) -> tuple[Choice, Decision]:
        kept = course.own.if_nothing_pays(course.rest, known)
        if kept is not None:
            return self._as_written(kept, (), known.rewriter)
        ended = self._search(known, course)
        if isinstance(ended.action, GiveUp):
            self._give_up(ended.action, ended.trials)
        choice = ended.action.choice
        own = course.own
        kept = own.if_fastest(choice, known)
        if kept is None and own.is_claim_weak(choice, course.rest):
            own = replace(own, as_is=inspector.measure_again(own.as_is))
            kept = own.if_fastest(choice, known)
        if kept is not None:
            return self._as_written(kept, ended.trials, known.rewriter)
        self._show(choice, ended.trials)
        return choice, self._turned(choice, own.as_is, known.rewriter)

    def _show(self, choice: Choice, trials: tuple[Trial, ...]) -> None:
        self._session.screen.show(Chosen.after(trials, choice, self._since_s()))
        self._folder.write_choice(choice)
        self._session.write_report()

    def _tell_limits(self, own: ScriptAsIs, rewriter: ConfigRewriter) -> None:
        """Tells what stays as it is, and why."""
        for sentence in (
            *rewriter.knobs.notes,
            *overridden_steps(rewriter.knobs, rewriter.facts),
            *overridden_tie(rewriter.knobs, rewriter.facts),
            *missing_knobs(own.facts),
        ):
            self._session.tell(sentence)

    def _search(self, known: Inspection, course: _Course) -> SearchResult:
        runner = ScriptProbeRunner(replace(self._specs, rewriter=known.rewriter))
        with self._session.tools.open_store() as store:
            space = self._space(known, course, store)
            return SearchLoop(space, runner, self._session, self._memory(space, store)).run(is_exhaustive=False)

    def _memory(self, space: SearchSpace, store: Store) -> TrialMemory:
        worst_tokens = space.setting.worst_tokens  # its data is seen through its batches alone
        return TrialMemory.of(space.setting, RowLengths(worst_tokens, worst_tokens), store)

    def _request(self, known: Inspection, course: _Course) -> Request:
        facts, tunable = known.rewriter.facts, self._specs.tunable
        return script_request(
            tunable.name,
            facts,
            pins_of(known.rewriter.knobs, facts, known.attention),
            memory_limit_bytes=tunable.settings.memory_limit_bytes,
            identity=(course.key,),
        )

    def _space(self, known: Inspection, course: _Course, store: Store) -> SearchSpace:
        request, facts = self._request(known, course), known.rewriter.facts
        shape, constants = course.own.as_is.shape, known_constants(self._hardware, store)
        setting = script_setting(request, facts, shape, self._hardware, constants)
        ladder = build_ladder(setting, as_pinned(setting))
        tried = tuple(one for one in known.tried if ladder.has(one[0]))
        return SearchSpace(setting, ladder, course.goal, tried)

    def _give_up(self, action: GiveUp, trials: tuple[Trial, ...]) -> NoReturn:
        """Raises NothingFits, or NotTuned where something else than memory kept the probes from their end."""
        self._session.write_report()
        if not (action.is_memory and all(isinstance(trial.outcome, (Measured, OutOfMemory)) for trial in trials)):
            raise NotTuned(f"{action.why.rstrip('.')}: it runs as it is.")
        self._session.screen.show(GaveUp(replace(action, would_fit=())))  # what would help is for `autofit train`
        raise NothingFits

    def _as_written(
        self, choice: Choice, trials: tuple[Trial, ...], rewriter: ConfigRewriter
    ) -> tuple[Choice, Decision]:
        """The decision for the user's own configuration, which starts with the user's own config."""
        self._show(choice, trials)
        return choice, Decision(STAYS, self._hardware.kind, loading=_loading(choice, rewriter))

    def _turned(self, choice: Choice, own: ScriptAsIs, rewriter: ConfigRewriter) -> Decision:
        """The decision for the choice, which starts with a config of its own, on every node."""
        path = self._folder.ds_config
        words = rewriter.trained(choice.strategy, str(path))
        self._specs.context.prober.put_file(path, words.config)
        text = f"{choice.strategy}, {choice.probed.tokens_per_s:,.0f} tokens/s{_gain(own.outcome, choice)}"
        self._session.tell(text)
        flags, loading = rewriter.flags(choice.strategy), _loading(choice, rewriter)
        return Decision(text, self._hardware.kind, str(path), flags, words.patches, loading)


def _loading(choice: Choice, rewriter: ConfigRewriter) -> Loading | None:
    folder = rewriter.facts.loads_from
    return None if folder is None else Loading(folder, choice.strategy.rung.zero_stage)


def _gain(own: Outcome, choice: Choice) -> str:
    if not isinstance(own, Measured):
        return ", where yours runs out of memory"
    ratio = choice.probed.tokens_per_s / own.tokens_per_s
    if 1 in (own.step_count, choice.probed.step_count):
        return f", about {ratio:.1f} times as fast as yours, by one measured step"
    return f", {ratio:.2f} times as fast as yours"

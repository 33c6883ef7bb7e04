"""The story of the drop-in: a line of `deepspeed` → the script as it is → what may be turned → the search → the same
line with the configuration that was chosen."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from autofit.app.context import Session
from autofit.app.script.launch_context import machine_here
from autofit.app.script.script_search import search_script
from autofit.app.script.tunable_line import NotTuned, TunableLine, read_tunable_line
from autofit.app.tools import REAL_TOOLS, Tools
from autofit.domain.deepspeed_line import LaunchLine, LaunchSettings
from autofit.domain.event import Screen
from autofit.domain.hardware import DeviceKind
from autofit.domain.line_decision import Decision, Kept, Settled
from autofit.domain.timeline import LaunchTimeline
from autofit.domain.units import brief_seconds
from autofit.inputs.script_checkpoint import read_checkpoint, to_make_universal
from autofit.planning.script.training_length import holds_for, training_length, why_too_short_to_look
from autofit.process.python import DEEPSPEED_MODULE, module_command
from autofit.report.launch_text import launch_timeline_text
from autofit.running.deepspeed_tools import make_universal
from autofit.running.script_command import command_script, starting_words
from autofit.runs.run_folder import RunFolder

Clock = Callable[[], float]

_OUTPUT_FLAG = "--autofit-output-dir"


def tune(
    line: LaunchLine,
    settings: LaunchSettings,
    *,
    screen: Screen,
    tools: Tools = REAL_TOOLS,
    clock: Clock = time.monotonic,
) -> tuple[str, ...]:
    """What follows `deepspeed` when the line is started. The machine is free again when it returns.

    NotTuned where there is nothing to search or nothing to go by, NothingFits when no configuration does, HostFailed
    when a host cannot take part.
    """
    began_at_s = clock()
    tunable = read_tunable_line(line, settings)
    session = Session(RunFolder(tunable.output_dir, _OUTPUT_FLAG), screen, tools)
    if not session.folder.exists:
        _check_length(tunable)
    with session.folder.lock(session.tell):
        here = machine_here(settings, session)
        key = tunable.identity(here)
        known = _kept(tunable, session, key)
        kept = known or _searched(tunable, session, here.kind, key, lambda: clock() - began_at_s)
        if not settings.is_dry_run:
            _make_universal(kept.decision, tunable, session)
        words = starting_words(line, kept.decision, memory_limit_bytes=settings.memory_limit_bytes)
        launcher, folder = module_command(DEEPSPEED_MODULE), session.folder
        folder.write_command(command_script(launcher, words, tunable.directory, folder.ds_config))
        if known is None:
            _keep(kept, session, None if settings.is_dry_run else clock() - began_at_s)
        return words


def _check_length(tunable: TunableLine) -> None:
    """NotTuned for a training that is over before its script could be looked at; where only a search can tell what fits
    or what was asked for, it is looked at all the same."""
    settings = tunable.settings
    if settings.is_dry_run or settings.memory_limit_bytes is not None or settings.tolerance is not None:
        return
    why = why_too_short_to_look(training_length(tunable.said, tunable.config))
    if why is not None:
        raise NotTuned(why)


def _kept(tunable: TunableLine, session: Session, key: str) -> Kept | None:
    """The decision that was made here for the same line; None where there is none that can be used and holds for a
    training of this length."""
    folder = session.folder
    kept = folder.read_decision()
    if kept is None or kept.key != key or not _is_usable(kept.decision, folder):
        return None
    text = kept.decision.text
    if not _holds(kept, tunable, folder):
        session.tell(f"{text}, but that was chosen for a shorter training: the search goes on")
        return None
    session.tell(f"{text}: kept in {folder.root}; another {_OUTPUT_FLAG} searches anew")
    return kept


def _holds(kept: Kept, tunable: TunableLine, folder: RunFolder) -> bool:
    length = training_length(tunable.said, tunable.config)
    choice = folder.read_choice()
    asked = Settled(tunable.said, length, tunable.settings.tolerance)
    return choice is None or holds_for(kept.settled, asked, choice.probed.step_s)


def _searched(tunable: TunableLine, session: Session, kind: DeviceKind, key: str, since_s: Clock) -> Kept:
    """The decision that a search comes to."""
    _check_length(tunable)
    if session.folder.exists:
        session.folder.archive(session.tell)
    try:
        found = search_script(tunable, session, kind=kind, key=key, since_s=since_s)
    except NotTuned as unable:
        if unable.note is None:
            raise
        session.folder.write_decision(Kept(key, Decision(unable.note.rstrip("."), kind)))
        raise NotTuned(f"{unable.note} That took {brief_seconds(since_s())}.") from unable
    kept = Kept(key, found.decision, found.settled, LaunchTimeline(found.looked_s, since_s()))
    session.folder.write_decision(kept)
    return kept


def _keep(kept: Kept, session: Session, handed_over_s: float | None) -> None:
    """Writes and tells where the time of the search went."""
    assert kept.timeline is not None
    timeline = replace(kept.timeline, handed_over_s=handed_over_s)
    session.folder.write_decision(replace(kept, timeline=timeline))
    session.write_report()
    session.tell(f"time: {launch_timeline_text(timeline)}")


def _is_usable(decision: Decision, folder: RunFolder) -> bool:
    """Whether its config is there, and can load the checkpoint that has come to lie where the script looks for one."""
    if decision.config_path is not None and not folder.ds_config.is_file():
        return False
    loading = decision.loading
    checkpoint = None if loading is None else read_checkpoint(loading.folder)  # one made universal has its stages
    return loading is None or checkpoint is None or loading.zero_stage in checkpoint.zero_stages


def _make_universal(decision: Decision, tunable: TunableLine, session: Session) -> None:
    """Makes the script's checkpoint universal where its config asks for that, and only another one is there."""
    is_asked = (tunable.config.get("checkpoint") or {}).get("load_universal")
    found = to_make_universal(decision.loading.folder) if is_asked and decision.loading else None
    if found is None:
        return
    session.tell(f"{found.path} is made universal beside itself, as checkpoint.load_universal wants it")
    log_path = session.folder.logs / "universal.log"
    if not make_universal(found, log_path=log_path):
        session.tell(f"it could not be made universal (log: {log_path})")

"""The story of the drop-in: a line of `deepspeed` → the script as it is → what may be turned → the search → the same
line with the configuration that was chosen."""

from __future__ import annotations

from autofit.app.context import Session
from autofit.app.script.launch_context import machine_here
from autofit.app.script.script_search import search_script
from autofit.app.script.tunable_line import TunableLine, read_tunable_line
from autofit.app.tools import REAL_TOOLS, Tools
from autofit.domain.deepspeed_line import Decision, Kept, LaunchLine, LaunchSettings
from autofit.domain.event import Screen
from autofit.inputs.script_checkpoint import read_checkpoint, to_make_universal
from autofit.process.python import DEEPSPEED_MODULE, module_command
from autofit.running.deepspeed_tools import make_universal
from autofit.running.script_command import command_script, starting_words
from autofit.runs.run_folder import RunFolder


def tune(line: LaunchLine, settings: LaunchSettings, *, screen: Screen, tools: Tools = REAL_TOOLS) -> tuple[str, ...]:
    """What follows `deepspeed` when the line is started. The machine is free again when it returns.

    NotTuned where there is nothing to search or nothing to go by, NothingFits when no configuration does, HostFailed
    when a host cannot take part.
    """
    tunable = read_tunable_line(line, settings)
    session = Session(RunFolder(tunable.output_dir), screen, tools)
    with session.folder.lock(session.tell):
        decision = _decide(tunable, session)
        if not settings.is_dry_run:
            _make_universal(decision, tunable, session)
        words = starting_words(line, decision, memory_limit_bytes=settings.memory_limit_bytes)
        launcher, folder = module_command(DEEPSPEED_MODULE), session.folder
        folder.write_command(command_script(launcher, words, tunable.directory, folder.ds_config))
        return words


def _decide(tunable: TunableLine, session: Session) -> Decision:
    """The decision that was made here for the same line, or that a search comes to."""
    folder, here = session.folder, machine_here(tunable.settings, session)
    key, kept = tunable.identity(here), folder.read_decision()
    if kept is not None and kept.key == key and _is_usable(kept.decision, folder):
        session.tell(f"{kept.decision.text}: kept in {folder.root}; another --autofit-output-dir searches anew")
        return kept.decision
    if folder.exists:
        folder.archive(session.tell)
    decision = search_script(tunable, session, kind=here.kind, key=key)
    folder.write_decision(Kept(key, decision))
    return decision


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

"""A probe of the user's own script on one rank: it builds its own model and data, and is ended after a few steps."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from autofit.domain.outcome import Phase
from autofit.planning.script.script_arguments import ACCUMULATION_FLAGS
from autofit.probing.protocol import ScriptSpec
from autofit.worker.deepspeed.engine_hook import hook_engines
from autofit.worker.rank.lifecycle import Rank
from autofit.worker.script.argument_parsers import watch_parsers
from autofit.worker.script.checkpoint_loading import load_nothing
from autofit.worker.script.isolation.isolation import isolate
from autofit.worker.script.python_main import run_as_main
from autofit.worker.script.script_observer import ScriptObserver, See
from autofit.worker.script.script_probe import Leave, ScriptProbe
from autofit.worker.script.side_effects import keep_away
from autofit.worker.script.step_questions import StepQuestions
from autofit.worker.script.trainer_rows import watch_rows
from autofit.worker.script.training_length import watch_trainer


def run(spec: ScriptSpec, rank: Rank, see: See, leave: Leave) -> NoReturn:
    """Runs the script; raises what it raises, otherwise leaves with a report. `see` is told what the script shows of
    itself."""
    questions = StepQuestions()
    observer = ScriptObserver(questions, see if rank.index == 0 else None)
    probe = ScriptProbe(spec, rank, observer, leave)
    script, scratch = spec.job.script, Path(spec.scratch_path)
    observer.escapes = isolate(scratch, script.directory)
    _enter_directory(script.directory, script.name, is_module=script.is_module, refuse=probe.refuse)
    keep_away(scratch)
    load_nothing(observer.take_checkpoint)
    questions.listen()
    watch_trainer(observer.take_trainer_steps)
    watch_parsers(ACCUMULATION_FLAGS, observer.take_accumulation_flag, observer.take_complaint)
    watch_rows(observer.take_rows, probe.refuse)
    hook_engines(probe.before_engine, probe.after_engine, probe.guard)
    local_rank = [f"--local_rank={os.environ['LOCAL_RANK']}"] if script.has_local_rank else []
    arguments = [*local_rank, *script.arguments]
    rank.enter(Phase.BUILD)
    try:
        run_as_main(script.name, arguments, is_module=script.is_module)
    except SystemExit as error:
        probe.script_ended(error.code)
    probe.script_ended(None)


def _enter_directory(directory: str, name: str, *, is_module: bool, refuse: Callable[[str], NoReturn]) -> None:
    if not os.path.isdir(directory):
        refuse(f"the script's working directory {directory} is not there on {socket.gethostname()}")
    os.chdir(directory)
    if not is_module and not os.path.exists(name):
        refuse(f"the script {name} is not there on {socket.gethostname()} (in {directory})")

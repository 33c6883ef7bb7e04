"""What a choice leaves in the run folder: itself, its configuration of DeepSpeed, and the command that trains by it."""

from __future__ import annotations

from autofit.app.context import Context, Session
from autofit.app.known_setting import with_known_setting
from autofit.app.probe_specs import context_config
from autofit.domain.knobs.offload import Offload
from autofit.domain.trial import Choice
from autofit.planning.export.deepspeed_config import has_engine
from autofit.process.python import DEEPSPEED_MODULE, module_command, package_folders
from autofit.running.training_command import command_script


def write_choice_files(choice: Choice, context: Context, session: Session) -> None:
    """Writes them; the configuration is away in between, so that whoever is killed here leaves no two that differ."""
    folder, rung = session.folder, choice.strategy.rung
    config = context_config(choice.strategy, context)
    folder.write_ds_config(None)
    folder.write_command(
        command_script(
            context.hardware,
            module_command(DEEPSPEED_MODULE),
            package_folders=package_folders(),
            has_engine=has_engine(rung),
            has_offload=rung.offload is not Offload.NONE,
        )
    )
    folder.write_choice(choice)
    folder.write_ds_config(config)


def mend_choice_files(choice: Choice, context: Context, session: Session) -> Context:
    """Writes them anew where their configuration is gone; the context, with its setting where that was wanted."""
    if session.folder.ds_config.exists() or not has_engine(choice.strategy.rung):
        return context
    context = with_known_setting(context, session)
    write_choice_files(choice, context, session)
    return context

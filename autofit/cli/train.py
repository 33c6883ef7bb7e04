"""The verb `autofit train`: flags to a request, and the story of a training."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .flags.flag import SectionedCommand, rest_of, words_of
from .flags.phase_flags import phases_of
from .flags.train_flags import train_flags

if TYPE_CHECKING:
    from autofit.domain.run_end import Preempted, Unsaved


@click.command(
    cls=SectionedCommand,
    options_metavar="--model MODEL [FLAGS]",
    epilog="""Hugging Face spellings work too (--model_name_or_path, --max_length, --per_device_train_batch_size,
    --num_train_epochs, ...), and its further training arguments may follow after --: the fields of trl's configuration
    of the task, such as SFTConfig.

    \b
    Examples:
      autofit train --model meta-llama/Llama-2-13b-hf --data chats.jsonl
      autofit train --model ./my-model --task dpo --data preferences.jsonl
      autofit train --model ./my-model --seq 4096 --method full --dry-run
      autofit train --model ./my-model --memory-limit 24GiB -- --weight_decay 0.1
    """,
)
@train_flags
@click.pass_context
def command(context: click.Context, /, **flags: Any) -> None:
    """Find the fastest configuration that fits, and train with it.

    The same command again goes on where an interrupted one stopped.
    """
    from autofit.hardware.requirements import check_requirements

    check_requirements()  # before anything of it is imported
    from autofit.domain.event import Note
    from autofit.process.signals import note_signals
    from autofit.running.stop_request import TrainingPreempted

    from .screen import open_screen

    note_signals(signal.SIGUSR1, signal.SIGUSR2)  # schedulers', before they end a job
    output_dir, begin = _phases(context, flags) if phases_of(context) else _single(context, flags)
    with open_screen(is_json=flags["json"]) as screen:
        try:
            begin(output_dir=output_dir, screen=screen)
        except TrainingPreempted as preempted:
            for text in _preempted(preempted.end, output_dir):
                screen.show(Note(text))
            raise
        except KeyboardInterrupt:
            screen.show(Note(f"Interrupted. The same command goes on from here: {output_dir} keeps what was done."))
            raise


def _preempted(end: Preempted | Unsaved, output_dir: Path) -> Iterator[str]:
    """What is said when a signal ended the training. Slurm is asked to start its job again where a step was saved: else
    that could go on for ever; and not after Ctrl-C."""
    from autofit.domain.run_end import Preempted
    from autofit.report.preemption_text import preempted_text, requeue_text
    from autofit.running.slurm_job import SlurmJob

    yield preempted_text(end, str(output_dir))
    job = SlurmJob.of(os.environ)
    is_saved = isinstance(end, Preempted) and end.step is not None
    if job is not None and is_saved and end.signal != signal.SIGINT:
        yield requeue_text(job.name, job.restart_count, job.requeue())


def _single(context: click.Context, flags: dict[str, Any]) -> tuple[Path, Callable[..., None]]:
    """The run folder of the one training that is asked for, and what trains it."""
    from autofit.app import train

    from .request_builder import build_request, count_ranks_here, default_output_dir, search_options

    request = build_request(flags, rest_of(context), count_ranks_here)
    begin = partial(train.train, request, options=search_options(flags))
    return flags["output_dir"] or default_output_dir(request), partial(_telling_anew, begin, words_of(context))


def _telling_anew(begin: Callable[..., None], words: tuple[str, ...], /, **where: Any) -> None:
    """Begins; a failure that another run may not come to is told with the command that starts one."""
    from autofit.domain.errors import TrainingFailed
    from autofit.domain.shell import shell_line

    try:
        begin(**where)
    except TrainingFailed as error:
        if not error.anew:
            raise
        at = words.index("--") if "--" in words else len(words)
        command = shell_line(["autofit", "train", *_without(words[:at], error.anew), *error.anew, *words[at:]])
        raise TrainingFailed(f"{error}\nto start anew by less: {command}") from error


def _without(words: tuple[str, ...], others: tuple[str, ...]) -> Iterator[str]:
    """The words without the flags, and their values, that are among the others."""
    names = [word for word in others if word.startswith("--")]
    rest = iter(words)
    for word in rest:
        if word in names:
            next(rest, None)
        elif not word.startswith(tuple(f"{name}=" for name in names)):
            yield word


def _phases(context: click.Context, flags: dict[str, Any]) -> tuple[Path, Callable[..., None]]:
    """The folder of the trainings of a recipe with tasks, and what trains them."""
    from autofit.app import phases

    from .phase_builder import build_phases, default_phases_dir
    from .request_builder import count_ranks_here

    asked = phases_of(context)
    begin = partial(phases.train_phases, build_phases(asked, rest_of(context), count_ranks_here))
    return flags["output_dir"] or default_phases_dir(asked), begin

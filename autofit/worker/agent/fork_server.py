"""The fork server: one process that has imported everything, from which every rank is forked."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any

from autofit.worker.agent.forking import prepare_to_fork
from autofit.worker.agent.line_reader import LineReader, wait_or_interrupt

PRELOAD = (
    "autofit.worker.agent.preload",
    "autofit.worker.training.training_probe",
    "autofit.worker.script.probed_script",
    "autofit.worker.training.survey",
    "autofit.worker.trace.micro_step_trace",
    "autofit.worker.model.description",
)
PRELOADED_BUILD = "deepspeed_shm_comm"  # on a CPU: DeepSpeed's shared-memory collectives
_POLL_S = 1.0
_UNSEEN = 255  # multiprocessing/popen_forkserver.py: the exit code of a process whose end nobody could tell


def start_fork_server(
    modules: tuple[str, ...], commands: LineReader, on_poll: Callable[[], None] = lambda: None
) -> ForkServerContext:
    """The context whose processes are forked warm, once it is warm; `on_poll` is called each second until then.

    CommandsClosed when `commands` end meanwhile, and what `on_poll` raises.
    """
    prepare_to_fork()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    forkserver.ensure_running()  # from this thread: the server dies with the one that has started it
    first = context.Process(target=_check_imports, args=(modules,), daemon=True)
    started = _start_aside(first)
    while not wait_or_interrupt([started], commands, _POLL_S):
        on_poll()
    os.close(started)
    if first.exitcode is None and first.pid is not None:
        wait_or_interrupt([first.sentinel], commands)
        first.join()
    if first.exitcode != 0:
        raise RuntimeError(f"the worker's modules could not be imported; see the log ({', '.join(modules)})")
    return context


def _start_aside(process: BaseProcess) -> int:
    """Starts the fork server in a thread, since that takes until the fork server has imported all. A descriptor that is
    ready then, whatever came of it."""
    reading, writing = os.pipe()

    def start() -> None:
        try:
            process.start()
        finally:
            os.close(writing)

    Thread(target=start, daemon=True).start()
    return reading


def _check_imports(modules: tuple[str, ...]) -> None:
    """Imports everything in a child: the fork server swallows the errors of a preload, here they are raised. And so is
    that one of them has initialized CUDA, after which no rank could use a GPU."""
    for module in modules:
        importlib.import_module(module)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda._is_in_bad_fork():
        raise RuntimeError("an import has initialized CUDA; what is forked now cannot use a GPU")


class ProcessLost(Exception):
    """A signal has ended a process that was to answer; one sentence."""


def death_signal(process: BaseProcess) -> int | None:
    """The signal that a forked process, which has ended, died of; None where it ended by itself.

    One that dies with the fork server dies of SIGKILL (see lifecycle.die_with_parent), and nobody can tell us so:
    multiprocessing says 255 then.
    """
    exit_code = process.exitcode
    if exit_code == _UNSEEN and _fork_server_has_ended():
        return signal.SIGKILL
    return -exit_code if exit_code is not None and exit_code < 0 else None


def _fork_server_has_ended() -> bool:
    """Asked so that multiprocessing still sees its end, and starts another one."""
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    return pid is None or os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def fork(context: ForkServerContext, target: Callable[..., Any], *arguments: Any) -> tuple[BaseProcess, Connection]:
    """Forks a process that runs `target(*arguments, sending)`; what it sends is heard on the second of the pair,
    EOFError at its end."""
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(*arguments, sending), daemon=True)
    process.start()
    sending.close()
    return process, receiving

"""The survey of the data in a process of its own, so that the agent stays clean of what it loads."""

from __future__ import annotations

from multiprocessing.context import ForkServerContext

from autofit.probing.protocol import Message, Survey, read_message, to_line
from autofit.process.build_locks.stale_locks import taking_locks_of
from autofit.worker.agent import forked_process
from autofit.worker.agent.fork_server import fork
from autofit.worker.agent.line_reader import LineReader, wait_or_interrupt


def survey_in_child(context: ForkServerContext, command: Survey, commands: LineReader) -> Message:
    """What the survey says; CommandsClosed, with nothing left running, when `commands` end."""
    process, answer = fork(context, forked_process.survey_main, to_line(command))
    try:
        wait_or_interrupt([answer], commands)
        return read_message(answer.recv_bytes())
    except EOFError:
        raise RuntimeError(f"the survey of the data ended without an answer; see {command.log_path}") from None
    finally:
        if process.is_alive() and process.pid is not None:
            with taking_locks_of(process.pid):
                process.kill()
                process.join()
        process.join()

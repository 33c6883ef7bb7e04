"""A survey of the data in a process of its own, which goes on while the agent runs probes."""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from threading import Thread

from autofit.probing.protocol import (
    AgentFailed,
    Message,
    Survey,
    Surveyed,
    SurveyRefused,
    read_command,
    read_message,
    to_line,
)
from autofit.process.build_locks.stale_locks import taking_locks_of
from autofit.worker.agent.agent_folder import use_temporary_folder
from autofit.worker.agent.answering_process import lost
from autofit.worker.agent.fork_server import ProcessLost, fork
from autofit.worker.agent.forked_process import settle


class SurveyProcess:
    """A survey that has begun: all that it says is handed to `send` as it comes, in a thread."""

    def __init__(self, context: ForkServerContext, command: Survey, send: Callable[[Message], None]) -> None:
        self._process, self._said = fork(context, survey_main, to_line(command))
        self._log_path = command.log_path
        self._send = send
        self._is_over = False
        Thread(target=self._pass_on, name="survey", daemon=True).start()

    def end(self) -> None:
        """Ends it, if it has not ended, with what it was building: its locks go with it. Nobody hears of that."""
        self._is_over = True
        if self._process.is_alive() and self._process.pid is not None:
            with taking_locks_of(self._process.pid):
                self._process.kill()
                self._process.join()

    def _pass_on(self) -> None:
        try:
            while not isinstance(message := read_message(self._said.recv_bytes()), (Surveyed, SurveyRefused)):
                self._send(message)
        except (EOFError, ConnectionResetError):
            if self._is_over:
                return
            self._process.join()
            why = lost(self._process, "the survey of the data", self._log_path)
            message = AgentFailed(str(why), is_bug=not isinstance(why, ProcessLost))
        self._send(message)


def survey_main(line: bytes, said: Connection) -> None:
    """The entry of the process. Where it goes on beside probes it computes when nothing else wants to, and so do the
    processes that it has make rows."""
    from autofit.worker.rank.lifecycle import die_with_parent
    from autofit.worker.training import survey

    command = read_command(line)
    assert isinstance(command, Survey)
    settle(command.log_path)
    use_temporary_folder()
    os.register_at_fork(after_in_child=die_with_parent)
    if command.foresees:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    said.send_bytes(to_line(survey.run(command, lambda news: said.send_bytes(to_line(news)))))

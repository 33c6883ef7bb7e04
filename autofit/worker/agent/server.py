"""The agent of a node: imports everything once, forks warm ranks for each probe, watches them and reports raw ends.

Started with `-m` by the CLI: commands come in on standard input, messages leave on the descriptor named by the first
argument, everything that libraries print goes to standard error. It ends, with all that it started, when standard
input ends.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from threading import Lock

from autofit.probing.protocol import (
    ONLY_TRACES,
    AgentFailed,
    CheckInputs,
    DescribeModel,
    Message,
    Ready,
    Refused,
    RunProbes,
    Survey,
    TraceModel,
    read_command,
    to_line,
)
from autofit.process.build_locks.build_lock import build_locks
from autofit.process.build_locks.build_wait import BuildLocked, BuildWatch
from autofit.worker.agent.agent_folder import make_temporary_folder
from autofit.worker.agent.answering_process import answer_in_child
from autofit.worker.agent.fork_server import PRELOAD, PRELOADED_BUILD, ProcessLost, start_fork_server
from autofit.worker.agent.group_watch import run_together
from autofit.worker.agent.line_reader import CommandsClosed, LineReader
from autofit.worker.agent.survey_process import SurveyProcess
from autofit.worker.agent.trace_pool import PRELOAD as TRACE_PRELOAD
from autofit.worker.agent.trace_pool import trace_in_children
from autofit.worker.agent.worker_group import WorkerGroup
from autofit.worker.rank.lifecycle import die_with_parent
from autofit.worker.script.python_main import leave_directory


class AgentServer:
    def __init__(self, message_fd: int, *, only_traces: bool) -> None:
        self._message_fd = message_fd
        self._sending = Lock()
        self._survey: SurveyProcess | None = None
        self._preload = TRACE_PRELOAD if only_traces else PRELOAD
        self._commands = LineReader(sys.stdin.fileno())

    def send(self, message: Message) -> None:
        with self._sending:  # a survey speaks meanwhile
            os.write(self._message_fd, to_line(message))

    def run(self) -> None:
        try:
            self._serve()
        finally:
            if self._survey is not None:
                self._survey.end()

    def _serve(self) -> None:
        began_at_s, temporary_path = time.monotonic(), make_temporary_folder()
        context = start_fork_server(self._preload, self._commands, self._look_for_builds())
        self.send(Ready(time.monotonic() - began_at_s, temporary_path))
        while (line := self._commands.next_line()) is not None:
            command = read_command(line)
            if isinstance(command, Survey):
                self._survey = SurveyProcess(context, command, self.send)
            elif isinstance(command, (CheckInputs, DescribeModel)):
                self.send(answer_in_child(context, command, self._commands))
            elif isinstance(command, TraceModel):
                self.send(trace_in_children(context, command, self._commands, self.send))
            elif isinstance(command, RunProbes):
                # An EndProbe that comes between probes finds nothing to end: its GroupEnded is on its way.
                run_together([WorkerGroup(context, probe, self.send) for probe in command.probes], self._commands)

    def _look_for_builds(self) -> Callable[[], None]:
        """Says who is at the build that the fork server needs, itself or another; BuildLocked when that takes too long.

        The fork server cannot say it: nobody hears it until it has imported everything.
        """
        watch = BuildWatch(self.send)

        def on_poll() -> None:
            for lock in build_locks(PRELOADED_BUILD):
                watch.is_over(lock)  # then the fork server takes it away

        return on_poll if self._preload == PRELOAD and os.environ.get("DS_ACCELERATOR") == "cpu" else lambda: None


def main() -> None:
    die_with_parent()
    leave_directory()
    agent = AgentServer(int(sys.argv[1]), only_traces=ONLY_TRACES in sys.argv[2:])
    try:
        agent.run()
    except (CommandsClosed, BrokenPipeError):
        os._exit(0)  # the CLI is gone and the ranks are killed; a clean exit would wait for an import to end
    except BuildLocked as error:
        agent.send(Refused(str(error)))
    except ProcessLost as error:
        agent.send(AgentFailed(str(error), is_bug=False))
    except Exception as error:
        agent.send(AgentFailed(f"{type(error).__name__}: {error}"))
        raise


if __name__ == "__main__":
    main()

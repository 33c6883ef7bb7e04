"""The agent of a node: imports everything once, forks warm ranks for each probe, watches them and reports raw ends.

Started with `-m` by the CLI: commands come in on standard input, messages leave on the descriptor named by the first
argument, everything that libraries print goes to standard error. It ends, with all that it started, when standard
input ends.
"""

from __future__ import annotations

import os
import sys
import time

from autofit.probing.protocol import AgentFailed, Message, Ready, RunProbe, Survey, read_command, to_line
from autofit.worker.group import Group, survey_in_child
from autofit.worker.lines import Interrupted, LineReader
from autofit.worker.rank import die_with_parent
from autofit.worker.warm import PRELOAD, start_fork_server


class Agent:
    def __init__(self, message_fd: int) -> None:
        self._message_fd = message_fd
        self._commands = LineReader(sys.stdin.fileno())

    def say(self, message: Message) -> None:
        os.write(self._message_fd, to_line(message))

    def run(self) -> None:
        began_at_s = time.monotonic()
        context = start_fork_server(PRELOAD, self._commands)
        self.say(Ready(time.monotonic() - began_at_s))
        while (line := self._commands.next_line()) is not None:
            command = read_command(line)
            if isinstance(command, Survey):
                self.say(survey_in_child(context, command, self._commands))
            elif isinstance(command, RunProbe):
                self.say(Group(context, command, self.say, self._commands).run())


def main() -> None:
    die_with_parent()
    agent = Agent(int(sys.argv[1]))
    try:
        agent.run()
    except (Interrupted, BrokenPipeError):
        os._exit(0)  # the CLI is gone and the ranks are killed; a clean exit would wait for an import to end
    except Exception as error:
        agent.say(AgentFailed(f"{type(error).__name__}: {error}"))
        raise


if __name__ == "__main__":
    main()

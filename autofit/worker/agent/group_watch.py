"""Several probes side by side: their ranks watched together, and what ends one leaves the others be."""

from __future__ import annotations

import time
from collections.abc import Sequence

from autofit.probing.protocol import EndProbe, read_command
from autofit.worker.agent.line_reader import LineReader, wait_or_command
from autofit.worker.agent.rank_process import RankProcess
from autofit.worker.agent.worker_group import WorkerGroup


def run_together(groups: Sequence[WorkerGroup], commands: LineReader) -> None:
    """Runs groups side by side until each has said how it ended; what ends one leaves the others be.

    Raises CommandsClosed, with nothing left running, when `commands` end.
    """
    going = list(groups)
    try:
        for group in groups:
            group.start()
        while going:
            _obey(going, commands)
            running = [
                rank_process for group in going for rank_process in group.running
            ]  # who ends from here on is seen below
            over = [group for group in going if group.is_over]
            for group in over:
                going.remove(group)
                group.end()
            if not over:
                _watch(going, running, commands)
    finally:
        for group in groups:
            group.kill()
            group.clear()


def _watch(going: list[WorkerGroup], running: list[RankProcess], commands: LineReader) -> None:
    """Waits for the next thing to happen, or for the first deadline of a rank or a group."""
    deadlines_s = [*(rank_process.deadline_s for rank_process in running), *(group.deadline_s for group in going)]
    wait_s = min(deadlines_s) - time.monotonic()
    sources: list[object] = [rank_process.process.sentinel for rank_process in running]
    sources += [rank_process.heartbeats for rank_process in running if not rank_process.heartbeats.closed]
    ready = wait_or_command(sources, commands, max(0.0, wait_s))
    for group in going:
        group.receive(ready)


def _obey(going: list[WorkerGroup], commands: LineReader) -> None:
    """Ends the probes that are to be ended; any other command stays until these probes are over."""
    while (line := commands.peek()) is not None and isinstance(command := read_command(line), EndProbe):
        commands.next_line()
        for group in going:
            if group.number == command.number:
                group.give_up()

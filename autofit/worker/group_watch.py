"""Several probes side by side: their ranks watched together, and what ends one leaves the others be."""

from __future__ import annotations

import time
from collections.abc import Sequence

from autofit.probing.protocol import EndProbe, read_command
from autofit.worker.group import Group
from autofit.worker.lines import LineReader, wait_or_command
from autofit.worker.member import Member


def run_together(groups: Sequence[Group], commands: LineReader) -> None:
    """Runs groups side by side until each has said how it ended; what ends one leaves the others be.

    Raises Interrupted, with nothing left running, when `commands` end.
    """
    going = list(groups)
    try:
        for group in groups:
            group.start()
        while going:
            _obey(going, commands)
            running = [member for group in going for member in group.running]  # who ends from here on is seen below
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


def _watch(going: list[Group], running: list[Member], commands: LineReader) -> None:
    """Waits for the next thing to happen, or for the first deadline of a rank or a group."""
    deadlines_s = [*(member.deadline_s for member in running), *(group.deadline_s for group in going)]
    wait_s = min(deadlines_s) - time.monotonic()
    sources: list[object] = [member.process.sentinel for member in running]
    sources += [member.beats for member in running if not member.beats.closed]
    ready = wait_or_command(sources, commands, max(0.0, wait_s))
    for group in going:
        group.hear(ready)


def _obey(going: list[Group], commands: LineReader) -> None:
    """Ends the probes that are to be ended; any other command stays until these probes are over."""
    while (line := commands.peek()) is not None and isinstance(command := read_command(line), EndProbe):
        commands.next_line()
        for group in going:
            if group.number == command.number:
                group.give_up()

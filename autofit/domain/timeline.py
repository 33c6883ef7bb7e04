"""Where the time of a run went."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timeline:
    """Seconds from the command to each mark of its run; None for what did not happen in it, such as the choice where an
    earlier run had chosen.

    The first step is the first optimizer step's end.
    """

    chosen_s: float | None = None
    first_step_s: float | None = None
    last_step_s: float | None = None
    saved_s: float | None = None


@dataclass(frozen=True)
class LaunchTimeline:
    """Seconds from a command in the place of `deepspeed` to each mark of its search: the script has been looked at, its
    configuration is chosen, DeepSpeed's launcher is started."""

    looked_s: float
    chosen_s: float
    handed_over_s: float | None = None

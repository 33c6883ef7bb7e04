"""DeepSpeed's call of pdsh, which starts launch.py on each node: told by the launcher to whoever ends the ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_LAUNCH = ["-u", "-m", "deepspeed.launcher.launch"]


@dataclass(frozen=True)
class PdshCall:
    """A call of pdsh: its options, then one line for the shell of each node, cut into words.

    `before` ends with the nodes' Python, `launch` is what it is given, `mark` tells this job's launch.py from others'.
    """

    before: tuple[str, ...]
    mark: str
    launch: tuple[str, ...]
    variables: tuple[tuple[str, str], ...]

    @staticmethod
    def of(command: Sequence[str], variables: Mapping[str, str], mark: str) -> PdshCall | None:
        """The call in a command, None for any other back end, and for a single node."""
        at = next((i for i in range(len(command)) if list(command[i : i + len(_LAUNCH)]) == _LAUNCH), None)
        if command[0] != "pdsh" or at is None:
            return None
        return PdshCall(tuple(command[:at]), mark, tuple(command[at:]), tuple(variables.items()))

    @property
    def words(self) -> tuple[str, ...]:
        """The command that starts the job. Python itself makes nothing of the mark, and the ranks do not inherit it."""
        return (*self.before, "-X", self.mark, *self.launch)

    def on_nodes(self, *words: str, connect_s: int) -> tuple[str, ...]:
        """The command that gives other words to the same Python in the same environment on the same nodes."""
        return (self.before[0], "-t", str(connect_s), *self.before[1:], *words)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts, in the order in which pdsh numbers them."""
        return tuple(self.before[self.before.index("-w") + 1].split(","))

    def value(self, option: str) -> str:
        """The value of an option of launch.py that is written with `=`."""
        return next(word for word in self.launch if word.startswith(f"{option}=")).partition("=")[2]

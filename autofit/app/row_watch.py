"""Whether the rows of a training are what its search takes them for, while they are still being counted."""

from __future__ import annotations

from autofit.app.context import Session
from autofit.app.opened_training import OpenedTraining
from autofit.planning.data.batch_widths import has_same_width


class Outdated(Exception):
    """The longest row is shorter than it might have been: what was searched is not what will be trained."""


class RowWatch:
    """Looks at the count of the rows between two trials; `there` is the training by what is known now."""

    def __init__(self, there: OpenedTraining, session: Session) -> None:
        self.there = there
        self._session = session

    def look(self, *, is_awaited: bool = False) -> None:
        """Takes the count once it is there; it is waited for where that `is_awaited`.

        Where the longest row is as long as it was taken to be, all trials hold. Else they are set aside, and Outdated
        is raised: what did not fit may fit, and everything takes less memory than was measured. UsageError when
        something of the data must be changed first.
        """
        before = self.there
        self.there = before.counted(self._session, is_awaited=is_awaited)
        now, was = self.there.profile, before.profile
        if not has_same_width(now, was, before.context.hardware.kind):
            self._session.tell(
                f"the longest row has {now.longest_tokens:,} tokens, not {was.longest_tokens:,}: the search begins anew"
            )
            raise Outdated

"""What runs from `with` to the end of `with`, and is put away however the block ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType

from autofit.probing.interruption import shielded


class ShieldedExit(ABC):
    """Its end is not cut short by a signal: that arrives afterwards."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with shielded():
            self._close()

    @abstractmethod
    def _close(self) -> None:
        """Leaves nothing behind."""

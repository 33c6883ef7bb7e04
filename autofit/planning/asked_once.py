"""What is asked again and again of one frozen value, and answered once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any, TypeVar

T = TypeVar("T")


class AskedOnce:
    """Keeps answers as long as it lives itself."""

    def once(self, key: Hashable, find: Callable[[], T]) -> T:
        """What `find` answers, asked once for each `key`."""
        if key not in self._found:
            self._found[key] = find()
        found: T = self._found[key]
        return found

    @cached_property
    def _found(self) -> dict[Hashable, Any]:
        return {}

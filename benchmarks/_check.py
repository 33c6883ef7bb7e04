"""What a check is and what it finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from importlib import import_module
from typing import Any

from autofit.domain.hardware import DeviceKind


@dataclass(frozen=True)
class Finding:
    """One line of the answer; `advice` is what to do where it is not as it should be."""

    check: str
    is_ok: bool
    text: str
    advice: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


class Say:
    """Hands the findings of one check on, each as soon as it is there."""

    def __init__(self, check: str, take: Callable[[Finding], None]) -> None:
        self._check, self._take = check, take

    def __call__(self, is_ok: bool, text: str, advice: str, **figures: Any) -> None:
        self._take(Finding(self._check, is_ok, text, "" if is_ok else advice, figures))

    def tell(self, text: str, **figures: Any) -> None:
        """What has no right or wrong."""
        self._take(Finding(self._check, True, text, "", figures))


class Where(str, Enum):
    PROCESS = "process"
    RANK = "rank"  # forked from a fork server that has imported everything, as the agent does it


@dataclass(frozen=True)
class Check:
    """The function of its name in `module`, which is imported only where it runs.

    `advice` stands for whatever that does not expect: an exception, an end without a word, no end.
    """

    name: str
    module: str
    limit_s: float
    advice: str
    where: Where = Where.RANK
    needs_gpu: bool = False

    def run(self, kind: DeviceKind, say: Say) -> None:
        getattr(import_module(self.module), self.name.replace(" ", "_"))(kind, say)

"""A last resort: what would fit where nothing does that trains as it was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from .estimate import Estimate
from .knobs.last_resort import LastResort
from .strategy import Strategy


@dataclass(frozen=True)
class Resort:
    """The fastest strategy with one last resort that is predicted to fit, the words that `--allow` takes for it, and
    what it gives up, a sentence's end."""

    order: LastResort
    allow: tuple[str, ...]
    gives_up: str
    strategy: Strategy
    estimate: Estimate

    @property
    def flag(self) -> str:
        return f"--allow {','.join(self.allow)}"

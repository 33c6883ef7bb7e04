"""What must be downloaded of a model before it can be trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Union

from autofit.domain.errors import UsageError
from autofit.domain.units import format_bytes

from .repository import HubFile


@dataclass(frozen=True)
class Download:
    """The files of `model` at `commit` that the cache lacks: the small ones, which all probes load, and the weights."""

    model: str
    commit: str
    small: tuple[HubFile, ...] = ()
    weights: tuple[HubFile, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is missing but the list of the files."""
        return not self.small and not self.weights

    @property
    def size_bytes(self) -> int:
        """As the hub's list has it; a mirror may not know the sizes, which count nothing then."""
        return sum(file.size_bytes for file in (*self.small, *self.weights))


@dataclass(frozen=True)
class Fetched:
    """So many bytes of the download are here, those of unfinished files among them."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class SmallFetched:
    """All but the weights is here."""


@dataclass(frozen=True)
class AllFetched:
    """Nothing is missing any more."""


@dataclass(frozen=True)
class Stopped:
    """The hub gives nothing more for now: the same download goes on another time."""

    what: str
    remedy: str | None


@dataclass(frozen=True)
class Denied:
    """The hub will not give it."""

    sentence: str


FetchMessage = Union[Fetched, SmallFetched, AllFetched, Stopped, Denied]


def check_room(download: Download, here_bytes: int, free_bytes: int, cache: Path) -> None:
    """UsageError where the disk of the cache has not the room for what is still to come.

    `here_bytes` of it are here in unfinished files, `free_bytes` are free there.
    """
    coming_bytes = download.size_bytes - here_bytes
    if coming_bytes > free_bytes:
        raise UsageError(
            f"{format_bytes(coming_bytes)} of {download.model} must be downloaded to {cache}, where "
            f"{format_bytes(free_bytes)} are free: free some there, or set HF_HOME to a folder on a larger disk."
        )


def stopped_text(model: str, at: Fetched, stopped: Stopped) -> str:
    """Says where the download stands, why, and that it goes on from there."""
    goes_on = "the same command goes on from there"
    stands = f"{format_bytes(at.done_bytes)} of {format_bytes(at.total_bytes)}"
    then = goes_on if stopped.remedy is None else f"{stopped.remedy}; {goes_on}"
    return f"The download of {model} stopped at {stands}, since {stopped.what}: {then}."

"""The download of a model as it goes on beside the search."""

from __future__ import annotations

from dataclasses import dataclass, replace

from autofit.domain.event import DownloadEnded, DownloadProgress, DownloadStarted
from autofit.domain.units import format_bytes, format_seconds

from .line import WIDTH, Line
from .progress import bar_line

_LABEL = "weights  "
_SHORT_COMMIT = 7  # digits, as git shows them
_SURE_S = 5.0  # a speed is known after so long


@dataclass(frozen=True)
class Downloading:
    """A download that goes on; times are the screen's clock. What an earlier run left counts for no speed."""

    total_bytes: int
    done_bytes: int = 0
    begin: tuple[float, int] | None = None  # when it was first heard of, and how much was here then (s, bytes)
    now_s: float = 0.0

    def after(self, progress: DownloadProgress, now_s: float) -> Downloading:
        begin = self.begin or (now_s, progress.done_bytes)
        done_bytes, total_bytes = progress.done_bytes, progress.total_bytes
        return replace(self, total_bytes=total_bytes, done_bytes=done_bytes, begin=begin, now_s=now_s)

    @property
    def left_s(self) -> float | None:
        """The time that it will still take, None while nobody can tell."""
        if self.begin is None:
            return None
        spent_s, fetched_bytes = self.now_s - self.begin[0], self.done_bytes - self.begin[1]
        if spent_s < _SURE_S or fetched_bytes <= 0:
            return None
        return (self.total_bytes - self.done_bytes) * spent_s / fetched_bytes


def download_lines(download: Downloading, *, width: int = WIDTH) -> list[Line]:
    share = download.done_bytes / max(download.total_bytes, 1)
    return [bar_line(_LABEL, share, download_text(download), width=width)]


def download_text(download: Downloading) -> str:
    """How far it is: `12.1 of 26.0 GB · 4:10 left`."""
    done, total = format_bytes(download.done_bytes), format_bytes(download.total_bytes)
    number, _, unit = done.rpartition(" ")
    text = f"{number if total.endswith(f' {unit}') else done} of {total}"
    return text if download.left_s is None else f"{text} · {format_seconds(download.left_s)} left"


def download_started_text(event: DownloadStarted) -> str:
    """What begins to come, at the commit that is trained."""
    size = format_bytes(event.total_bytes) if event.total_bytes else "files"
    return f"{size} of {event.model} (commit {event.commit[:_SHORT_COMMIT]}) come from the hub meanwhile"


def download_ended_text(event: DownloadEnded) -> str:
    return f"{format_bytes(event.total_bytes)} of {event.model} are here, after {format_seconds(event.total_s)}"

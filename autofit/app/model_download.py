"""What is downloaded of a model while the search runs, so that the full run begins with its weights here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from autofit.app.context import Context, Session
from autofit.domain.event import Event, Screen
from autofit.hardware.host import disk_free_bytes
from autofit.inputs.download import check_room
from autofit.inputs.hub_model import check_cached
from autofit.inputs.partial_file import cache_folder, unfinished_bytes


@contextmanager
def downloading(context: Context, session: Session) -> Iterator[Callable[[], None]]:
    """Downloads what the cache lacks of the model until the end of `with`; gives what waits for the weights.

    All but the weights is there at its beginning. UsageError where the disk has not the room, the hub gives nothing, or
    what it gave would run more than weights need.
    """
    download = context.download
    if download is None:
        yield lambda: None
        return
    cache = cache_folder()
    check_room(download, unfinished_bytes(download.model), disk_free_bytes(cache), cache)
    log_path = session.folder.logs / "download.log"
    with session.tools.start_download(download, log_path=log_path, show=session.screen.show) as started:
        started.wait_for_small_files()

        def wait() -> None:
            started.wait()
            check_cached(download.model)

        yield wait


class SharedScreen:
    """A screen that several threads show events on, one at a time."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._lock = threading.Lock()

    def show(self, event: Event) -> None:
        with self._lock:
            self._screen.show(event)

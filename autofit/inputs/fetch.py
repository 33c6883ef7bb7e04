"""The process that fetches what the cache lacks of a model, beside a search: started with -m, it reads what on its
standard input, whose end is its own, and tells how it goes on the descriptor that is its argument."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import BinaryIO

import psutil

from autofit.domain.codec import decode, to_json
from autofit.domain.errors import UsageError

from .download import AllFetched, Denied, Download, FetchMessage, SmallFetched, Stopped
from .hub_error import HubUnavailable, hub_errors, translated
from .partial_file import PartialFile, find_partial_file
from .repository import HubFile
from .tally import Say, Tally

_CONNECTIONS = 4  # enough for any line, and few enough to lose little of the machine to
_LEAST_NICE = 19


def main() -> None:
    """Fetches to the end; exit code 1 where the hub ends it before."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    _give_way()
    disable_progress_bars()
    messages = os.fdopen(int(sys.argv[1]), "wb", buffering=0)
    download = decode(Download, json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with, args=(sys.stdin.buffer,), daemon=True).start()
    lock = threading.Lock()

    def say(message: FetchMessage) -> None:
        with lock:
            messages.write(to_json(message, separators=(",", ":")).encode() + b"\n")

    try:
        fetch(download, say)
    except hub_errors() as error:
        say(_failure(translated(download.model, error)))
        os._exit(1)
    os._exit(0)  # connections that are still open are nobody's any more


def _failure(reason: UsageError) -> FetchMessage:
    if isinstance(reason, HubUnavailable):
        return Stopped(reason.trouble.what, reason.trouble.remedy)
    return Denied(str(reason))


def fetch(download: Download, say: Say) -> None:
    """Brings all files of `download` into the cache, the small ones first. Raises what the hub's client raises, once no
    file goes on."""
    import huggingface_hub

    # Keeps the list of all files, too, by which one knows later that nothing is missing.
    huggingface_hub.snapshot_download(
        download.model,
        revision=download.commit,
        allow_patterns=[glob.escape(file.name) for file in download.small],
    )
    say(SmallFetched())
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        files = list(pool.map(partial(_look_at, download), download.weights))
        small_bytes = sum(file.size_bytes for file in download.small)
        here_bytes = small_bytes + sum(file.here_bytes for file in files)
        tally = Tally(say, here_bytes, small_bytes + sum(file.size_bytes for file in files))
        completed = [pool.submit(file.complete, tally.meter) for file in files]
    tally.tell()
    for one in completed:
        one.result()
    say(AllFetched())


def _look_at(download: Download, file: HubFile) -> PartialFile:
    return find_partial_file(download.model, file.name, download.commit)


def _give_way() -> None:
    """Lets the probes beside this process have the cores and the disk before it."""
    os.nice(_LEAST_NICE)
    with contextlib.suppress(psutil.Error, OSError, AttributeError):  # Linux only, and not in every container
        psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)


def _end_with(stream: BinaryIO) -> None:
    """Ends this process, whose files stay as they are, when `stream` ends: then whoever started it has gone."""
    while stream.read(1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()

"""The folder of what an agent and the processes below it write for a while. None of them outlives a kill to take it
away: whoever started the agent does, or the next agent."""

from __future__ import annotations

import multiprocessing.process
import os
import shutil
import socket
import tempfile
from multiprocessing.util import get_temp_dir
from pathlib import Path

PREFIX = "autofit-agent-"
_LONGEST_BYTES = 89  # with `/listener-12345678` it is the path of a socket, which has room for 107 (unix(7))
_SHORT = "/tmp"


def make_temporary_folder() -> str:
    """Makes the folder, which is multiprocessing's own too: its fork server listens there, for its user alone."""
    place = tempfile.gettempdir()
    if len(os.fsencode(place)) + len(f"/{PREFIX}12345678") > _LONGEST_BYTES:
        place = _SHORT
    _drop_abandoned(Path(place))
    folder = tempfile.mkdtemp(prefix=PREFIX, dir=place)
    multiprocessing.process.current_process()._config["tempdir"] = folder  # type: ignore[attr-defined]
    return folder


def use_temporary_folder() -> None:
    """Has this process, which an agent's fork server has forked, write there."""
    tempfile.tempdir = get_temp_dir()


def _drop_abandoned(place: Path) -> None:
    """Takes away the folders whose fork server does not listen any more."""
    for folder in place.glob(f"{PREFIX}*"):
        if any(_is_deserted(listener) for listener in folder.glob("listener-*")):
            shutil.rmtree(folder, ignore_errors=True)


def _is_deserted(listener: Path) -> bool:
    folder = -1
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            folder = os.open(listener.parent, os.O_RDONLY | os.O_DIRECTORY)
            asking.connect(f"/proc/self/fd/{folder}/{listener.name}")  # a socket's path must be short
        except ConnectionRefusedError:
            return True
        except OSError:  # another user's, or it has just gone
            return False
        finally:
            if folder >= 0:
                os.close(folder)
    return False

"""The folder of what an agent and the processes below it write for a while. None of them outlives a kill to take it
away: whoever started the agent does, or the next agent."""

from __future__ import annotations

import multiprocessing.process
import os
import tempfile
from multiprocessing.util import get_temp_dir
from pathlib import Path

from autofit.process.temporary_folder import claimed_folder

PREFIX = "autofit-agent-"
_LONGEST_BYTES = 89  # with `/listener-12345678` it is the path of a socket, which has room for 107 (unix(7))
_SHORT = "/tmp"


def make_temporary_folder() -> str:
    """Makes the folder, which is multiprocessing's own too: its fork server listens there, for its user alone. It is
    this process's until that ends."""
    place = tempfile.gettempdir()
    if len(os.fsencode(place)) + len(f"/{PREFIX}12345678") > _LONGEST_BYTES:
        place = _SHORT
    folder, _ = claimed_folder(PREFIX, Path(place))
    multiprocessing.process.current_process()._config["tempdir"] = str(folder)  # type: ignore[attr-defined]
    return str(folder)


def use_temporary_folder() -> None:
    """Has this process, which an agent's fork server has forked, write there."""
    tempfile.tempdir = get_temp_dir()

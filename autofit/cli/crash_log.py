"""The log of a crash, for us to read."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import traceback
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from autofit import __version__
from autofit.domain.masking import masked
from autofit.domain.shell import shell_line
from autofit.process.files import opening

_FOR_US = 0o600  # a traceback may quote what nobody else is to read


def write_crash_log(error: BaseException, words: list[str], environment: Mapping[str, str]) -> Path:
    """Writes a new log and gives its path: it has the versions, the command line and the traceback, without the
    secrets of the environment."""
    text = "\n".join(
        [
            f"autofit {__version__}, Python {sys.version.split()[0]}, {platform.platform()}",
            f"command: {shell_line(['autofit', *words])}",
            "",
            *traceback.format_exception(error),
        ]
    )
    name = f"crash-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
    path = _folder(environment) / name
    with open(path, "x", encoding="utf-8", opener=opening(_FOR_US)) as stream:
        stream.write(masked(text, environment))
    return path


def _folder(environment: Mapping[str, str]) -> Path:
    """$XDG_STATE_HOME/autofit, or the temporary folder where the home is not ours to write."""
    home = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    folder = Path(home) / "autofit"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir())
    return folder if os.access(folder, os.W_OK) else Path(tempfile.gettempdir())

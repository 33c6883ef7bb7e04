"""Where the file lies that remembers across runs."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from autofit.domain.shell import path_word

FILE_NAME = "autofit.sqlite"
_ROOT = 0  # it may write everything, and in a container it is given the folders of others


def store_path(environment: Mapping[str, str]) -> Path:
    """The store's path: in $AUTOFIT_CACHE, else $XDG_CACHE_HOME/autofit, else ~/.cache/autofit; nothing is made there
    yet."""
    return _folder(environment) / FILE_NAME


def _folder(environment: Mapping[str, str]) -> Path:
    if named := environment.get("AUTOFIT_CACHE"):
        return Path(named)
    if shared := environment.get("XDG_CACHE_HOME"):
        return Path(shared) / "autofit"
    try:
        return Path.home() / ".cache" / "autofit"
    except RuntimeError:  # a container may run us under a user number that has no home
        return Path(tempfile.gettempdir()) / "autofit"


def check_private(path: Path) -> None:
    """Checks the file of a store and its folder; OSError where somebody else has written them or could."""
    for place in (path.parent, path):
        if place.exists():
            found = place.stat()
            if found.st_uid not in (os.geteuid(), _ROOT) and os.geteuid() != _ROOT:
                raise OSError(errno.EPERM, "it is another user's", str(place))
            if found.st_mode & stat.S_IWOTH:
                raise OSError(errno.EPERM, f"everybody may write it, which `chmod o-w {path_word(place)}` ends")


def remove_store(path: Path) -> None:
    """Removes the file, and the journal that a killed process may have left."""
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)

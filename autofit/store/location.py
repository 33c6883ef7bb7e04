"""Where the file lies that remembers across runs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

FILE_NAME = "autofit.sqlite"


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


def remove_store(path: Path) -> None:
    """Removes the file, and the journal that a killed process may have left."""
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}-journal").unlink(missing_ok=True)

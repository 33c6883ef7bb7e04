"""The versions of what decides memory and speed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import metadata

from autofit import __version__


@dataclass(frozen=True)
class Versions:
    """The versions that are installed; None where a package is not."""

    torch: str | None
    transformers: str | None
    peft: str | None
    trl: str | None
    deepspeed: str | None
    autofit: str = __version__


@cache
def versions() -> Versions:
    """Read from the packages' metadata: nothing is imported."""
    torch, transformers, peft, trl, deepspeed = map(_version, ("torch", "transformers", "peft", "trl", "deepspeed"))
    return Versions(torch, transformers, peft, trl, deepspeed)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

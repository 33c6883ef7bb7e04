"""Packages of any version, by the metadata that pip leaves; they stand in front of what is really installed."""

from __future__ import annotations

from pathlib import Path


def write_packages(folder: Path, **versions: str) -> None:
    """The metadata of each package, underscores for hyphens, as an installation into `folder` leaves it."""
    for package, version in versions.items():
        place = folder / f"{package}-{version}.dist-info"
        place.mkdir(parents=True)
        name = package.replace("_", "-")
        (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

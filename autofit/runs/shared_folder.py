"""A folder in which other things may lie, too: whether it may be used at all, and moving what is ours alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from autofit.domain.errors import UsageError
from autofit.domain.shell import path_word

OUTPUT_FLAG = "--output-dir"
"""What names the folder of a run, but for the drop-in's, whose own flags begin with another word."""

_NAMED = 4  # so many are told by name


def check_location(root: Path, flag: str) -> None:
    """Checks where a folder lies; UsageError for one that is nobody's to fill: the root of the file system, a home,
    what holds a home. `flag` names another."""
    place, home = root.absolute().resolve(), Path(os.path.expanduser("~")).resolve()
    if place == Path(place.anchor) or place == home or place in home.parents:
        what = "a home folder" if place != Path(place.anchor) else "the root of the file system"
        raise UsageError(f"{place} is {what}: name a folder of its own for the files of a run with {flag}.")


def check_free(root: Path, taken: Iterable[Path], flag: str) -> None:
    """Checks that nothing is in the way; UsageError when what autofit did not write lies where it would write, in
    `taken`. `flag` names another folder."""
    names = [str(path.relative_to(root)) for path in taken]
    if names:
        raise UsageError(
            f"{root} holds {_listed(names)} already, not written by autofit, which would write there. "
            f"Name another folder with {flag}."
        )


def sharing_text(root: Path, own: Iterable[Path]) -> str | None:
    """What people are told when more lies in `root` than `own`; None when there is nothing else."""
    ours = set(own)
    others = sorted(path.name for path in root.iterdir() if path not in ours) if root.is_dir() else []
    if not others:
        return None
    return f"{root} holds {_listed(others)}, too: autofit writes, moves and removes its own files there alone"


def exposure_text(root: Path) -> str | None:
    """What people are told of a folder into which everybody may write; None of any other."""
    if not root.is_dir() or not root.stat().st_mode & stat.S_IWOTH:
        return None
    return (
        f"everybody may write in {root}, and what lies there is run again by whoever goes on with the training: "
        f"`chmod o-w {path_word(root)}` ends that"
    )


def move(items: Iterable[Path], root: Path, place: Path) -> None:
    """Moves each of `items` from `root` to the same path under the new folder `place`."""
    place.mkdir(parents=True)
    for item in list(items):
        target = place / item.relative_to(root)
        target.parent.mkdir(exist_ok=True)
        item.rename(target)


def _listed(names: list[str]) -> str:
    """The names in a few words: `a, b, c, d and 3 more`."""
    named, more = names[:_NAMED], len(names) - _NAMED
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")

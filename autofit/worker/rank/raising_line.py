"""Where an exception was raised, and whose code that is: ours, the user's, or a library's."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

import autofit
from autofit.domain.errors import AutofitError, InternalError

_OURS = Path(autofit.__file__).parent
_LIBRARIES = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}


def raising_line(error: BaseException) -> str:
    """The file and the line that raised it, such as `loss.py:41`; of ours from the package on."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "raised nowhere"
    path = Path(frames[-1].filename)
    short = path.relative_to(_OURS.parent) if path.is_relative_to(_OURS) else Path(*path.parts[-2:])
    return f"{short}:{frames[-1].lineno}"


def is_ours(error: BaseException) -> bool:
    """Whether our own code raised it: a library that raises may have been given what it cannot work with."""
    path = _raising_file(error)
    return path is not None and path.is_relative_to(_OURS)


def is_users(error: BaseException, *, is_script: bool) -> bool:
    """Whether what is the user's own said no: the data or the model, of which our own sentence tells, a template, or a
    line of the script that runs."""
    if isinstance(error, AutofitError):
        return not isinstance(error, InternalError)
    if type(error).__module__.partition(".")[0] == "jinja2":
        return True
    path = _raising_file(error) if is_script else None
    return path is not None and path.is_absolute() and not any(map(path.is_relative_to, (_OURS, *_LIBRARIES)))


def _raising_file(error: BaseException) -> Path | None:
    frames = traceback.extract_tb(error.__traceback__)
    return Path(frames[-1].filename) if frames else None

"""A script or a module of the user's, run within this process as `python script.py` or `python -m module` would."""

from __future__ import annotations

import builtins
import os
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from types import ModuleType


def leave_directory() -> None:
    """Takes away what `python -m` or `-c` has put first: a user's `datasets.py` must not stand for the library.

    A Python that was started safely has put nothing there: what is first then is the user's own PYTHONPATH.
    """
    if not getattr(sys.flags, "safe_path", False) and sys.path[:1] in ([""], [os.getcwd()]):
        del sys.path[0]


def run_as_main(name: str, arguments: Sequence[str], *, is_module: bool) -> None:
    """Runs the script with `sys.argv`, `sys.path[0]` and `__main__` set; raises what the script raises. After
    `leave_directory`.

    How this Python was started says nothing of the script's own: that would be told by the user's environment.
    """
    sys.argv = [name, *arguments]
    if not (sys.version_info >= (3, 11) and os.environ.get("PYTHONSAFEPATH")):
        sys.path.insert(0, os.getcwd() if is_module else os.path.dirname(os.path.realpath(name)))
    if is_module:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    elif os.path.isdir(name) or not name.endswith(".py"):
        runpy.run_path(name, run_name="__main__")  # a folder or an archive with a __main__.py, or a file of any name
    else:
        _run_file(os.path.abspath(name))


def _run_file(path: str) -> None:
    """Runs a file whose `__main__` stays when it has ended, unlike runpy's, for what the script registered to run at
    exit."""
    main = ModuleType("__main__")
    main.__dict__.update(__file__=path, __loader__=SourceFileLoader("__main__", path), __builtins__=builtins)
    with open(path, "rb") as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    sys.modules["__main__"] = main
    exec(code, main.__dict__)

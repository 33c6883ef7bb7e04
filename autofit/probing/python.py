"""Starting a module with this Python."""

from __future__ import annotations

import os
import sys

DEEPSPEED_MODULE = "deepspeed.launcher.runner"
"""What the script `deepspeed` starts. The script itself lies elsewhere after `pip install --user` or `--target`."""

SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""As a variable, for what DeepSpeed's launcher starts with `-m` in its turn; heeded from Python 3.11 on."""


def module_command(module: str) -> list[str]:
    """Without the working directory on its path (from Python 3.11 on), where a user's file may have any name."""
    return [sys.executable, *(["-P"] if sys.version_info >= (3, 11) else []), "-m", module]


def package_folders() -> str:
    """Where PYTHONPATH has this Python look for packages, by absolute paths; empty where it is not set."""
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(os.path.abspath(folder) for folder in folders if folder)

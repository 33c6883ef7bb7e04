"""Starting a module with this Python."""

from __future__ import annotations

import sys


def module_command(module: str) -> list[str]:
    """Without the working directory on its path (from Python 3.11 on), where a user's file may have any name."""
    return [sys.executable, *(["-P"] if sys.version_info >= (3, 11) else []), "-m", module]

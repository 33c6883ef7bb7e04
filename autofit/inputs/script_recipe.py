"""A file of arguments that a script's command line names, as HfArgumentParser and TrlParser take one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SUFFIXES = {".yaml", ".yml", ".json"}


def read_recipe(name: str) -> Mapping[str, Any]:
    """The arguments by their names; nothing where there is no such file, or where it holds something else: the script
    says what is wrong with it."""
    path = Path(name)
    if path.suffix not in _SUFFIXES:
        return {}
    import yaml  # JSON is YAML, too

    try:
        body = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return body if isinstance(body, dict) else {}

"""The folders that a script's arguments name as its output, led to a throw-away one in a probe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_OUTPUT = {"output_dir", "output_path", "out_dir", "save_dir", "save_path", "save_folder", "results_dir"}
_OUTPUT |= {"logging_dir", "log_dir", "log_path", "tensorboard_dir", "project_dir", "run_dir"}
_CHECKPOINTS = {"checkpoint_dir", "checkpoint_path", "checkpoints_dir", "ckpt_dir", "ckpt_path", "save_checkpoint_dir"}


def redirected(arguments: Sequence[str], scratch: Path) -> tuple[str, ...]:
    """`--x V` and `--x=V` of output folders name one in `scratch` instead.

    A checkpoint folder that holds something is left named: it may be read, and nothing is written outside `scratch`.
    """
    words = list(arguments)
    for place, word in enumerate(words):
        flag, has_value, value = word.partition("=")
        if not flag.startswith("--"):
            continue
        if has_value:
            words[place] = f"{flag}={_folder(flag, value, scratch)}"
        elif place + 1 < len(words) and not words[place + 1].startswith("--"):
            words[place + 1] = _folder(flag, words[place + 1], scratch)
    return tuple(words)


def _folder(flag: str, value: str, scratch: Path) -> str:
    name = flag.lstrip("-").replace("-", "_")
    if name not in _OUTPUT and (name not in _CHECKPOINTS or _holds_something(Path(value))):
        return value
    folder = scratch / name
    if Path(value).is_dir():
        folder.mkdir(parents=True, exist_ok=True)  # as the script finds it
    return str(folder)


def _holds_something(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and any(path.iterdir()))

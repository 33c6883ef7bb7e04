"""Where a probe writes for real: its own folders, those of the kernel, and caches that spare the next one the work."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

_CACHES = (
    "AUTOFIT_CACHE", "CUDA_CACHE_PATH", "HF_DATASETS_CACHE", "HF_HOME", "HF_HUB_CACHE", "HF_MODULES_CACHE",
    "HUGGINGFACE_HUB_CACHE", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "TORCH_EXTENSIONS_DIR", "TORCH_HOME",
    "TORCHINDUCTOR_CACHE_DIR", "TRANSFORMERS_CACHE", "TRITON_CACHE_DIR", "XDG_CACHE_HOME",
)  # fmt: skip
_IN_HOME = (".cache", ".nv", ".triton")
_OF_THE_SYSTEM = ("/dev", "/proc", "/run", "/sys")


def real_folders(environment: Mapping[str, str], scratch: Path, directory: str) -> tuple[str, ...]:
    """The folders by paths without links. A cache that the environment names is made, so that what is fetched into it
    stays; one that the script's `directory` lies in is none."""
    caches = [Path(environment[name]).expanduser() for name in _CACHES if environment.get(name)]
    home = Path("~").expanduser()
    for cache in (*caches, home / ".cache"):
        with contextlib.suppress(OSError):  # a script that needs it will say so
            cache.mkdir(parents=True, exist_ok=True)
    of_the_user = {os.path.realpath(path) for path in (*caches, *(home / name for name in _IN_HOME))}
    own = {path for path in of_the_user if not Path(os.path.realpath(directory)).is_relative_to(path)}
    pipes = environment.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")  # nobody listens at the copy of a socket
    found = {os.path.realpath(scratch), os.path.realpath(pipes), *own, *_OF_THE_SYSTEM}
    return tuple(sorted(path for path in found if os.path.isdir(path)))

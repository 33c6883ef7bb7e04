"""What training needs to find installed, for `autofit doctor`. Nothing is imported to find out."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from autofit.domain.units import format_bytes

from .nvml import Nvml, Reading, VendorNvml
from .requirements import OPTIONAL, REQUIRED, Requirement

RunProgram = Callable[[tuple[str, ...]], str]

_VERSION_TIMEOUT_S = 10.0
_SHARED_MEMORY = "/dev/shm"
_LEAST_SHARED_BYTES = 10**9


@dataclass(frozen=True)
class Finding:
    name: str
    version: str | None  # None also when it is there and does not tell
    is_present: bool
    needed_for: str
    how_to_get: str  # a command
    is_optional: bool = False
    least: str | None = None  # the oldest version that will do; None where any will
    is_too_old: bool = False

    @property
    def is_usable(self) -> bool:
        return self.is_present and not self.is_too_old


@dataclass(frozen=True)
class _Tool:
    name: str
    needed_for: str
    how_to_get: str
    is_optional: bool = False
    version_argument: str = "--version"


_PROGRAMS = (
    _Tool("g++", "the operators that DeepSpeed compiles at first use", "apt-get install g++"),
    _Tool("ninja", "the operators that DeepSpeed compiles at first use", "pip install ninja"),
    _Tool("pdsh", "several machines", "apt-get install pdsh", is_optional=True, version_argument="-V"),
)
_NVCC = _Tool("nvcc", "DeepSpeed's own CUDA operators", "apt-get install nvidia-cuda-toolkit", is_optional=True)


def run_program(command: tuple[str, ...]) -> str:
    """What `command` prints; OSError or SubprocessError when it does not run to its end in time."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=True)
    return done.stdout + done.stderr


def inspect_toolchain(
    nvml: Nvml | None = None, *, cuda_home: str | None = None, run: RunProgram = run_program
) -> tuple[Finding, ...]:
    """Python, its packages, the programs, shared memory and the driver, in the order in which one would install them.

    `cuda_home` is the value of CUDA_HOME; `nvcc` is looked for only where there are GPUs.
    """
    reading = (nvml or VendorNvml()).read()
    folders = (Path(sys.executable).parent, Path(cuda_home or "/usr/local/cuda") / "bin")
    programs = (*_PROGRAMS, _NVCC) if reading.gpus else _PROGRAMS
    return (
        Finding("python", platform.python_version(), True, "everything", "apt-get install python3"),
        *(_inspect_requirement(requirement) for requirement in REQUIRED),
        *(_inspect_requirement(requirement, is_optional=True) for requirement in OPTIONAL),
        *(_inspect_program(tool, folders, run) for tool in programs),
        _inspect_shared_memory(),
        _inspect_driver(reading),
    )


def _inspect_requirement(requirement: Requirement, *, is_optional: bool = False) -> Finding:
    found = requirement.found
    return Finding(
        requirement.package,
        found,
        is_present=found is not None,
        needed_for=requirement.needed_for,
        how_to_get=requirement.how_to_get,
        is_optional=is_optional,
        least=requirement.least,
        is_too_old=found is not None and not requirement.is_met,
    )


def _inspect_program(tool: _Tool, folders: tuple[Path, ...], run: RunProgram) -> Finding:
    # A virtual environment that is used without being activated has its programs beside its Python, not on PATH.
    places = (None, *(str(folder) for folder in folders))
    path = next((found for place in places if (found := shutil.which(tool.name, path=place))), None)
    if path is None:
        return _finding(tool, is_present=False)
    try:
        text = run((path, tool.version_argument))
    except (OSError, subprocess.SubprocessError):  # there, but not able to say which it is
        return _finding(tool, is_present=True)
    version = re.search(r"\d+(\.\d+)+", text)
    return _finding(tool, is_present=True, version=version.group() if version else None)


def _finding(tool: _Tool, *, is_present: bool, version: str | None = None) -> Finding:
    return Finding(tool.name, version, is_present, tool.needed_for, tool.how_to_get, tool.is_optional)


def _inspect_shared_memory() -> Finding:
    """Whether /dev/shm is large enough: Docker makes it 64 MB unless it is told another size."""
    free_bytes = shutil.disk_usage(_SHARED_MEMORY).free
    return Finding(
        _SHARED_MEMORY,
        f"{format_bytes(free_bytes)} free",
        is_present=free_bytes >= _LEAST_SHARED_BYTES,
        needed_for=f"NCCL and data loaders, has only {format_bytes(free_bytes)} free",
        how_to_get="docker run --shm-size=8g",
        is_optional=True,
    )


def _inspect_driver(reading: Reading) -> Finding:
    is_present = bool(reading.gpus or reading.driver_version)
    driver = Finding(
        "NVIDIA driver", reading.driver_version, is_present, "NVIDIA GPUs", "ubuntu-drivers install", is_optional=True
    )
    return replace(driver, needed_for=f"NVIDIA GPUs; {reading.problems[0]}") if reading.problems else driver

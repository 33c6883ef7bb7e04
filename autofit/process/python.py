"""Starting this Python: the command of a module, and the environment of what imports torch and DeepSpeed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from autofit.domain.hardware import DeviceKind

# On a CPU the rank's heap is the device. One arena, and every block of a megabyte or more given back at once: otherwise
# glibc keeps what is broken up, and a training of 24 steps grew 45 MB beyond its probe (13 MB with these).
CPU_ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**20),
}

# How a launcher tells a process which rank of which job it is, and where the others are: what torch's rendezvous,
# accelerate's PartialState and DeepSpeed's engine read of torchrun, MPI and MVAPICH (of Slurm's they read nothing).
_PLACE = {
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "NODE_RANK", "CROSS_RANK", "MPI_LOCALRANKID"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE", "LOCAL_SIZE", "CROSS_SIZE"),
    *("MPI_LOCALNRANKS", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT", "FORK_LAUNCHED"),
}
_PLACE_PREFIXES = ("OMPI_", "PMI_", "PMIX_", "MV2_COMM_WORLD_", "TORCHELASTIC_")
_ACCELERATE_PREFIX = "ACCELERATE_"  # its launcher's choices: FSDP, another precision, a compiler

SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""`module_command` as a variable, for what is started with `-m` further below; Python reads it from 3.11 on."""
_WITHOUT_SAFE_PATH = (
    "import sys; del sys.path[0], sys.argv[0]; import runpy; "
    "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def worker_environment(kind: DeviceKind) -> dict[str, str]:
    """The environment of autofit's own training: nothing of what another launcher, or the job around autofit, left for
    its ranks, and host memory that is pinned as it is asked for.

    With such a place accelerate waits for ranks that nobody has started, or asks for MASTER_ADDR.
    """
    from .pinned_allocator import exact_pins  # which looks at versions: the drop-in pays nothing for it

    placeless = without_rank_variables(script_environment(kind))
    own = {name: value for name, value in placeless.items() if not name.startswith(_ACCELERATE_PREFIX)}
    return own if kind is DeviceKind.CPU else own | exact_pins(own)


def without_rank_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment but for the variables that say which rank of which job a process is."""
    return {name: value for name, value in environment.items() if not _is_rank_variable(name)}


def _is_rank_variable(name: str) -> bool:
    return name in _PLACE or name.startswith(_PLACE_PREFIXES)


def script_environment(kind: DeviceKind) -> dict[str, str]:
    """The environment of a user's script: all of the user's, as DeepSpeed's launcher passes it on.

    The kind of device is decided, and the tools beside this Python are found. Each rank is told its GPUs by itself, and
    none are named here: at the name of a MIG slice torch counts GPUs with a call of CUDA's, after which the agent's
    forks could not use them any more.
    """
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    environment["DS_ACCELERATOR"] = kind.value
    environment["PYTHONUNBUFFERED"] = "1"
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    if kind is DeviceKind.CPU:
        environment["CUDA_VISIBLE_DEVICES"] = ""
        environment.update(CPU_ALLOCATOR)
    return environment


DEEPSPEED_MODULE = "deepspeed.launcher.runner"
"""What the script `deepspeed` starts. The script itself lies elsewhere after `pip install --user` or `--target`."""


def module_command(module: str) -> list[str]:
    """The command of a module without the working directory on its path, where a user's file may have any name."""
    if sys.version_info >= (3, 11):
        return [sys.executable, "-P", "-m", module]
    return [sys.executable, "-c", _WITHOUT_SAFE_PATH, module]


def package_folders() -> str:
    """The folders in which PYTHONPATH has this Python look for packages, by absolute paths; empty where it is not
    set."""
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(os.path.abspath(folder) for folder in folders if folder)

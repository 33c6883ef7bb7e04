"""What must be installed for a training, each package with the least version that the tests ran with.

Nothing is imported to look: the packages' own metadata tells their versions.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

from autofit.domain.errors import UsageError


@dataclass(frozen=True)
class Requirement:
    package: str  # as pip knows it
    least: str
    needed_for: str
    pip_options: tuple[str, ...] = ()

    @property
    def found(self) -> str | None:
        return installed_version(self.package)

    @property
    def is_met(self) -> bool:
        found = self.found
        return found is not None and _release(found) >= _release(self.least)

    @property
    def how_to_get(self) -> str:
        """The command that mends it."""
        return pip_command([self])


REQUIRED = (
    Requirement("torch", "2.11", "training"),
    Requirement("deepspeed", "0.19.8", "training on several devices, ZeRO, offload"),
    # Its checkpointing API is new; before it layer hooks also fire in the recomputation, and traces are wrong.
    Requirement("transformers", "5.23", "models and tokenizers"),
    Requirement("trl", "1.16", "the trainer"),
    Requirement("peft", "0.21.2", "LoRA"),
    Requirement("accelerate", "1.15", "the trainer"),
    Requirement("datasets", "5.2", "reading the data"),
    Requirement("huggingface-hub", "1.31", "models of the hub"),  # what transformers 5.23 and datasets 5.2 ask for
    Requirement("nvidia-ml-py", "12.535", "looking at the GPUs"),
    Requirement("psutil", "5.9.8", "the end of processes"),
    Requirement("click", "8.4.2", "the command line"),
    Requirement("rich", "13.7.1", "the screen"),
    Requirement("pyyaml", "6.0.1", "recipes"),
    Requirement("hjson", "3.1", "DeepSpeed's configs"),
)

# FlashAttention-4 installs a module of the same name: the package is asked for. The least is that of transformers
# 5.23, `is_flash_attn_2_available` in utils/import_utils.py.
FLASH_ATTENTION = Requirement("flash-attn", "2.3.3", "flash_attention_2", ("--no-build-isolation",))
# The least versions are those of transformers 5.23, in utils/import_utils.py where it asks for one.
SCANS = (
    Requirement("causal-conv1d", "1.4", "convolutions of linear attention", ("--no-build-isolation",)),
    Requirement("flash-linear-attention", "0.2.2", "linear attention"),
    Requirement("mamba-ssm", "2.0.4", "state spaces", ("--no-build-isolation",)),
)
# The least versions are those that the tests ran with: bitsandbytes computes on CPU ranks only in the newest.
BITSANDBYTES = Requirement("bitsandbytes", "0.50", "optimizers with 8-bit moments, Lion, quantised base models")
TORCHAO = Requirement("torchao", "0.18", "optimizers with bf16 master weights")
LEAN = (BITSANDBYTES, TORCHAO)
OPTIONAL = (FLASH_ATTENTION, *SCANS, *LEAN)
"""The packages that only some values of the knobs need, and those that only some models run faster with."""

EXACT_PINS = Requirement("torch", "2.13", "pinned memory that is not rounded up")
"""What no training needs: what is offloaded takes less of the host with it."""


@dataclass(frozen=True)
class UnmetRequirements:
    """What is missing or too old; at least one."""

    unmet: tuple[Requirement, ...]

    @property
    def wants(self) -> str:
        """What is wanted, in words: `transformers 5.23 or newer (5.17.0 is installed) and trl 1.16 or newer (not
        installed)`."""
        *others, last = [_want(requirement) for requirement in self.unmet]
        return f"{', '.join(others)} and {last}" if others else last

    @property
    def how_to_get(self) -> str:
        return pip_command(self.unmet)


def find_unmet_requirements() -> UnmetRequirements | None:
    """What of REQUIRED is missing or too old; None where all of it is there."""
    unmet = tuple(requirement for requirement in REQUIRED if not requirement.is_met)
    return UnmetRequirements(unmet) if unmet else None


def check_requirements() -> None:
    """Checks what is installed; UsageError with the command that mends it where something is missing or too old."""
    if lacking := find_unmet_requirements():
        raise UsageError(f"training needs {lacking.wants}: {lacking.how_to_get}")


def installed_version(package: str) -> str | None:
    """The version of `package` that is installed; None where there is none, and where a broken removal has left a
    folder of metadata without a version."""
    try:
        return metadata.version(package) or None
    except metadata.PackageNotFoundError:
        return None


def installed_here() -> frozenset[str]:
    """The optional packages that are installed, as new as they must be."""
    return frozenset(one.package for one in OPTIONAL if one.is_met)


def pip_command(requirements: Sequence[Requirement]) -> str:
    """The command that installs all of them for the Python that runs."""
    options = {option: None for requirement in requirements for option in requirement.pip_options}
    wanted = (f"{requirement.package}>={requirement.least}" for requirement in requirements)
    return shlex.join([sys.executable, "-m", "pip", "install", *options, *wanted])


def _want(requirement: Requirement) -> str:
    found = requirement.found
    return f"{requirement.package} {requirement.least} or newer ({f'{found} is' if found else 'not'} installed)"


def _release(version: str) -> tuple[int, ...]:
    """The numbers of a version. A preview counts as its release: NVIDIA's containers have a torch 2.11.0a0."""
    numbers = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(number) for number in numbers[0].split(".")) if numbers else ()

"""A command line of `deepspeed`: what it asks of the launcher, which script it starts, and what is asked of autofit."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum


@dataclass(frozen=True)
class LauncherOptions:
    """The options of DeepSpeed's launcher that decide where the ranks run and how the script is started."""

    hostfile: str = "/job/hostfile"
    include: str = ""
    exclude: str = ""
    num_nodes: int = -1
    num_gpus: int = -1
    master_addr: str = ""
    master_port: int = 29500
    launcher: str = "pdsh"
    is_module: bool = False
    no_python: bool = False
    no_local_rank: bool = False
    no_ssh: bool = False
    autotuning: str = ""  # tune or run


class Override(str, Enum):
    """A part of a user's configuration that may be changed although it was written as a number."""

    STAGE = "stage"
    OFFLOAD = "offload"
    MICRO_BATCH = "micro-batch"
    BUCKETS = "buckets"


@dataclass(frozen=True)
class LaunchSettings:
    """What the `--autofit-` options ask for."""

    is_off: bool = False
    is_dry_run: bool = False
    memory_limit_bytes: int | None = None  # per device
    steps: int | None = None  # measured optimizer steps of a probe; None: as many as a good figure needs
    timeout_s: float = 600.0  # the silence that ends a probe
    override: frozenset[Override] = field(default_factory=frozenset)
    output_dir: str | None = None
    tolerance: float | None = None  # 0.01: until nothing left can be faster by 1 %; None: as long as it pays


@dataclass(frozen=True)
class LaunchLine:
    """A line taken apart: `option_words` are the launcher's as they were written, without autofit's own.

    A line that DeepSpeed's own parser refuses has nothing but these: it is handed over for DeepSpeed to say why.
    """

    option_words: tuple[str, ...]
    script: str = ""  # a path, or a module's name; empty in a line that is refused
    arguments: tuple[str, ...] = ()  # the script's own
    options: LauncherOptions = LauncherOptions()
    tuned_option_words: tuple[str, ...] | None = None  # without --autotuning, where it was there

    @property
    def without_autotuning(self) -> LaunchLine:
        if self.tuned_option_words is None:
            return self
        options = replace(self.options, autotuning="")
        return replace(self, option_words=self.tuned_option_words, options=options, tuned_option_words=None)

    @property
    def is_refused(self) -> bool:
        return not self.script

    @property
    def words(self) -> tuple[str, ...]:
        """What follows the word `deepspeed`."""
        return self.option_words if self.is_refused else (*self.option_words, self.script, *self.arguments)


@dataclass(frozen=True)
class HostSlots:
    host: str
    slots: tuple[int, ...]  # device numbers, as CUDA_VISIBLE_DEVICES will name them


@dataclass(frozen=True)
class Layout:
    """The hosts on which DeepSpeed's launcher would start ranks, in the order of their ranks, `hosts[0]` first."""

    hosts: tuple[HostSlots, ...]
    is_multi_node: bool  # whether a back end (pdsh, Slurm, MPI) starts them

    @property
    def rank_count(self) -> int:
        return sum(len(host.slots) for host in self.hosts)

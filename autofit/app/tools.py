"""What looks at the machine, remembers, and starts processes; a test brings its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from autofit.domain.deepspeed_line import LaunchLine, Layout
from autofit.domain.event import RankEvent, Tell
from autofit.domain.hardware import DeviceKind, Hardware, Node
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.request import Request
from autofit.domain.run_end import MergeFailed, RunEnd
from autofit.domain.script import LoadedCheckpoint
from autofit.hardware.cgroup import oom_kill_count
from autofit.hardware.energy_counter import check_counted
from autofit.hardware.machine import detect_here
from autofit.inputs.download import Download
from autofit.probing.agent import Agent
from autofit.probing.agent_program import TRACING, USER_SCRIPT
from autofit.probing.nodes.cluster import Cluster
from autofit.probing.prober import ScriptProber, Tracer, TrainingProber
from autofit.running.deepspeed_tools import make_universal, resolve_layout
from autofit.running.full_run import merge
from autofit.running.full_run import train as run_training
from autofit.running.model_download import ModelDownload, ShowDownload
from autofit.running.standby import Standby
from autofit.running.supervision import Supervision
from autofit.running.training_command import TrainingFiles
from autofit.store import Store, open_store

ProberT = TypeVar("ProberT", covariant=True)


class Detect(Protocol):
    """Looks, as `detect_here`, at the machine here, with `ranks` devices or those of `slots`, under the cap of each."""

    def __call__(
        self,
        disk_path: Path,
        *,
        ranks: int | None = None,
        memory_limit_bytes: int | None = None,
        slots: Sequence[int] | None = None,
    ) -> Hardware: ...


class CheckCounted(Protocol):
    """Checks that the energy of these devices can be counted; UsageError says what is missing."""

    def __call__(self, hardware: Hardware, /) -> None: ...


class OpenStore(Protocol):
    def __call__(self) -> AbstractContextManager[Store]: ...


class StartTracer(Protocol):
    """Starts an agent without DeepSpeed, which traces; what it prints goes to `log_path`."""

    def __call__(self, log_path: Path) -> AbstractContextManager[Tracer]: ...


class StartAgent(Protocol[ProberT]):
    """An agent for autofit's own training or for a user's script; `tell` hears for whom it has to wait."""

    def __call__(self, *, kind: DeviceKind, log_path: Path, tell: Tell) -> AbstractContextManager[ProberT]: ...


class JobProber(ScriptProber, Protocol):
    """A prober on several nodes, which it has looked at."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, each with the devices that the job uses there."""


class StartCluster(Protocol):
    """An agent on every node of `layout`; `tell` hears for whom they have to wait."""

    def __call__(
        self, line: LaunchLine, layout: Layout, *, log_path: Path, tell: Tell
    ) -> AbstractContextManager[JobProber]: ...


class ResolveLayout(Protocol):
    """Where a line's ranks would run; None where DeepSpeed would refuse it."""

    def __call__(self, line: LaunchLine) -> Layout | None: ...


class ShowTraining(Protocol):
    def __call__(self, event: RankEvent, /) -> None: ...


class RunTraining(Protocol):
    """Runs the training to its end, whatever that is; `standby` may have a launcher that waits for it.

    TrainingPreempted where a signal ends it.
    """

    def __call__(
        self,
        hardware: Hardware,
        files: TrainingFiles,
        log_path: Path,
        show: ShowTraining,
        *,
        standby: Standby | None,
        supervision: Supervision,
    ) -> RunEnd: ...


class StandBy(Protocol):
    """Has a launcher of the training stand by, once it is started; what it prints goes to `log_path`."""

    def __call__(self, kind: DeviceKind, log_path: Path) -> AbstractContextManager[Standby]: ...


class AwaitedDownload(Protocol):
    def wait_for_small_files(self) -> None:
        """Waits for all but the weights."""

    def wait(self) -> None:
        """Waits for everything."""


class StartDownload(Protocol):
    """Starts the download of what the cache lacks of a model; `show` hears of it, from another thread."""

    def __call__(
        self, download: Download, *, log_path: Path, show: ShowDownload
    ) -> AbstractContextManager[AwaitedDownload]: ...


class Merge(Protocol):
    """Makes one model of the request's and the adapter; says why not, where that fails."""

    def __call__(
        self, hardware: Hardware, request: Request, *, adapter: Path, out: Path, dtype: Dtype, log_path: Path
    ) -> MergeFailed | None: ...


class MakeUniversal(Protocol):
    """Makes a checkpoint universal in the folder `place`, or beside itself; says whether that is done, and `tell` hears
    that it goes on."""

    def __call__(self, checkpoint: LoadedCheckpoint, /, *, log_path: Path, place: Path | None, tell: Tell) -> bool: ...


def start_tracer(log_path: Path) -> AbstractContextManager[Tracer]:
    """The agent without DeepSpeed. It traces on fake tensors, so it is to see no GPU."""
    return Agent(kind=DeviceKind.CPU, log_path=log_path, program=TRACING)


def start_agent(*, kind: DeviceKind, log_path: Path, tell: Tell) -> AbstractContextManager[TrainingProber]:
    return Agent(kind=kind, log_path=log_path, oom_kill_count=oom_kill_count, tell=tell)


def start_script_agent(*, kind: DeviceKind, log_path: Path, tell: Tell) -> AbstractContextManager[ScriptProber]:
    return Agent(kind=kind, log_path=log_path, oom_kill_count=oom_kill_count, tell=tell, program=USER_SCRIPT)


@dataclass(frozen=True)
class Tools:
    detect: Detect = detect_here
    check_counted: CheckCounted = check_counted
    open_store: OpenStore = open_store
    start_tracer: StartTracer = start_tracer
    start_agent: StartAgent[TrainingProber] = start_agent
    start_script_agent: StartAgent[ScriptProber] = start_script_agent
    start_cluster: StartCluster = Cluster
    resolve_layout: ResolveLayout = resolve_layout
    start_download: StartDownload = ModelDownload
    stand_by: StandBy = Standby
    run_training: RunTraining = run_training
    merge: Merge = merge
    make_universal: MakeUniversal = make_universal

    def detect_for(self, disk_path: Path, request: Request) -> Hardware:
        """The machine here, as far as `request` would use it; free disk is that of `disk_path`."""
        return self.detect(disk_path, ranks=request.ranks, memory_limit_bytes=request.memory_limit_bytes)


REAL_TOOLS = Tools()

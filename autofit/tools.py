"""What looks at the machine, remembers, and starts processes; a test brings its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.launch import LaunchLine, Layout
from autofit.domain.request import Request
from autofit.domain.run_end import MergeFailed, RunEnd
from autofit.hardware.machine import detect_here
from autofit.probing.agent import Agent
from autofit.probing.cluster import Cluster
from autofit.running.layout import resolve_layout
from autofit.running.training import merge
from autofit.running.training import train as run_training
from autofit.store import Store, open_store

StartTracer = Callable[[Path], AbstractContextManager[Agent]]


def start_tracer(log_path: Path) -> AbstractContextManager[Agent]:
    """The agent without DeepSpeed. It traces on fake tensors, so it is to see no GPU."""
    return Agent(kind=DeviceKind.CPU, log_path=log_path, only_traces=True)


@dataclass(frozen=True)
class Tools:
    detect: Callable[..., Hardware] = detect_here
    open_store: Callable[[], AbstractContextManager[Store]] = open_store
    start_tracer: StartTracer = start_tracer
    start_agent: Callable[..., AbstractContextManager[Agent]] = Agent
    start_cluster: Callable[..., AbstractContextManager[Cluster]] = Cluster
    resolve_layout: Callable[[LaunchLine], Layout | None] = resolve_layout
    run_training: Callable[..., RunEnd] = run_training
    merge: Callable[..., MergeFailed | None] = merge

    def look(self, disk_path: Path, request: Request) -> Hardware:
        """The machine here, as far as `request` would use it; free disk is that of `disk_path`."""
        return self.detect(disk_path, ranks=request.ranks, memory_limit_bytes=request.memory_limit_bytes)


REAL_TOOLS = Tools()

"""What a line of `deepspeed` is tuned in: the hosts, the machine and the agents that it would run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from autofit.app.context import Session
from autofit.app.script.tunable_line import NotTuned, TunableLine
from autofit.app.tools import Tools
from autofit.domain.deepspeed_line import LaunchLine, LaunchSettings, Layout
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.probing.prober import ScriptProber


@dataclass(frozen=True)
class LaunchContext:
    """What a line is tuned in: where the ranks run, and who runs them there for a probe."""

    layout: Layout
    hardware: Hardware
    prober: ScriptProber


def machine_here(settings: LaunchSettings, session: Session, layout: Layout | None = None) -> Hardware:
    """The machine here as far as `layout` would use it; UsageError for devices that cannot be."""
    detect, disk_path, limit_bytes = session.tools.detect, session.folder.root, settings.memory_limit_bytes
    if layout is None:
        return detect(disk_path, memory_limit_bytes=limit_bytes)
    slots = layout.hosts[0].slots
    return detect(disk_path, ranks=layout.rank_count, memory_limit_bytes=limit_bytes, slots=slots)


@contextmanager
def open_launch_context(tunable: TunableLine, session: Session, kind: DeviceKind) -> Iterator[LaunchContext]:
    """Yields the context with the agents of all nodes started, until the end of the block; NotTuned where DeepSpeed
    refuses the line.

    `kind` is that of the machine here.
    """
    line, settings, tools = tunable.line, tunable.settings, session.tools
    log_path = session.folder.logs / "agent.log"
    if Path(line.options.hostfile).is_file():
        layout = _layout(line, tools)
        if layout.is_multi_node:
            with tools.start_cluster(line, layout, log_path=log_path, tell=session.tell) as cluster:
                hardware = Hardware(cluster.nodes, settings.memory_limit_bytes)
                yield LaunchContext(layout, hardware, cluster)
            return
    with tools.start_script_agent(kind=kind, log_path=log_path, tell=session.tell) as agent:
        layout = _layout(line, tools)  # while the agent imports
        yield LaunchContext(layout, machine_here(settings, session, layout), agent)


def _layout(line: LaunchLine, tools: Tools) -> Layout:
    layout = tools.resolve_layout(line)
    if layout is None:
        raise NotTuned  # its launcher says what is wrong
    return layout

"""What a line of `deepspeed` is about: its config, and the hosts, the machine and the agents that it would run on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import hjson

from autofit.app.tools import Tools
from autofit.domain.deepspeed_line import LaunchLine, LaunchSettings, Layout
from autofit.domain.event import Tell
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.planning.script.script_arguments import INDIFFERENT_FLAGS, config_flags, find, is_config, without
from autofit.planning.script.tunable_knobs import Config
from autofit.probing.prober import ScriptProber
from autofit.runs.run_folder import RunFolder
from autofit.store.packing import digest
from autofit.store.versions import versions


class NotTuned(Exception):
    """The line is DeepSpeed's launcher's alone. `note` says why; None where nobody needs to be told."""

    def __init__(self, note: str | None = None) -> None:
        super().__init__(note)
        self.note = note


@dataclass(frozen=True)
class LaunchContext:
    """What a line is tuned in: where the ranks run, and who runs them there for a probe."""

    layout: Layout
    hardware: Hardware
    prober: ScriptProber


def read_config(line: LaunchLine, settings: LaunchSettings) -> Config:
    """The DeepSpeed config that the script's arguments name; NotTuned where there is nothing to tune."""
    if settings.is_off or line.is_refused:
        raise NotTuned
    if line.options.no_python:
        raise NotTuned("--no_python starts a program that nobody can look into: it runs as it is, unsearched.")
    if line.options.no_ssh:
        raise NotTuned("--no_ssh starts each node by hand, so nobody can search on all: it runs as it is, unsearched.")
    named = find(line.arguments, config_flags(line.arguments))
    if named is None:
        raise NotTuned("no DeepSpeed config is named on the command line: the script runs as it is, unsearched.")
    try:
        content = hjson.loads(Path(named.text).read_text(encoding="utf-8"))  # as DeepSpeed does: comments are allowed
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise NotTuned(f"{named.text} cannot be read ({why}): the script runs as it is, unsearched.") from None
    if not is_config(content):
        raise NotTuned(f"{named.text} is no DeepSpeed config: the script runs as it is, unsearched.")
    config: Config = content
    return config


def identity(line: LaunchLine, config: Config, settings: LaunchSettings, hardware: Hardware) -> str:
    """A digest that is equal for two lines that would be tuned alike: the output folder or the learning rate does not
    count."""
    parts = [
        line.option_words, line.script, without(line.arguments, INDIFFERENT_FLAGS), config, sorted(settings.override),
        settings.memory_limit_bytes, hardware.summary, versions(),
        _digest(line.script), _digest(line.options.hostfile),
    ]  # fmt: skip
    return digest(parts)


def _digest(name: str) -> str:
    """Of a file's content; empty where there is none, as for a module."""
    path = Path(name)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def machine_here(tools: Tools, settings: LaunchSettings, disk_path: Path, layout: Layout | None = None) -> Hardware:
    """The machine here as far as `layout` would use it; UsageError for devices that cannot be."""
    limit_bytes = settings.memory_limit_bytes
    if layout is None:
        return tools.detect(disk_path, memory_limit_bytes=limit_bytes)
    slots = layout.hosts[0].slots
    return tools.detect(disk_path, ranks=layout.rank_count, memory_limit_bytes=limit_bytes, slots=slots)


@contextmanager
def open_launch_context(
    line: LaunchLine,
    settings: LaunchSettings,
    folder: RunFolder,
    kind: DeviceKind,
    tools: Tools,
    tell: Tell,
) -> Iterator[LaunchContext]:
    """Yields the context with the agents of all nodes started, until the end of the block; NotTuned where DeepSpeed
    refuses the line.

    `tell` hears for whom an agent has to wait.
    """
    log_path = folder.logs / "agent.log"
    if Path(line.options.hostfile).is_file():
        layout = _layout(line, tools)
        if layout.is_multi_node:
            with tools.start_cluster(line, layout, log_path=log_path, tell=tell) as cluster:
                hardware = Hardware(cluster.nodes, settings.memory_limit_bytes)
                yield LaunchContext(layout, hardware, cluster)
            return
    with tools.start_script_agent(kind=kind, log_path=log_path, tell=tell) as agent:
        layout = _layout(line, tools)  # while the agent imports
        yield LaunchContext(layout, machine_here(tools, settings, folder.root, layout), agent)


def _layout(line: LaunchLine, tools: Tools) -> Layout:
    layout = tools.resolve_layout(line)
    if layout is None:
        raise NotTuned  # its launcher says what is wrong
    return layout

"""A node's middle: the CLI on one side, the agent on the other, and what neither of them can do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from autofit.hardware.cgroup import oom_kill_count
from autofit.hardware.host import disk_free_bytes
from autofit.probing.agent_process import AgentProcess
from autofit.probing.nodes.node_protocol import FileWritten, FindPort, NodeCommand, PortFound, ProbeEnded, PutFile
from autofit.probing.nodes.remote_files import RemoteFiles
from autofit.probing.protocol import EndProbe, GroupEnded, Message, Ready, Refused, RunProbes, read_message
from autofit.process.connection import Connection, Lines
from autofit.process.files import OURS, explain, no_space, write_whole
from autofit.process.rendezvous import free_port
from autofit.process.signals import shielded, wait

_FULL_BYTES = 1_000_000  # less free disk than this is none


class Relay:
    """The CLI on one side, the agent on the other, and what neither of them can do in between."""

    def __init__(self, connection: Connection, agent: AgentProcess) -> None:
        self._connection = connection
        self._agent = agent
        self._lines = Lines()
        self._remote_files: RemoteFiles | None = None
        self._scratch: Path | None = None  # of the probe that is running
        self._kills_before = 0
        self._is_ready = False

    def run(self) -> None:
        """Runs until the agent ends, or the CLI hangs up (ConnectionLost), or a signal comes."""
        while True:
            ready = wait([self._connection.fileno(), self._agent.messages])
            if self._connection.fileno() in ready:
                for command in self._connection.receive():
                    self._obey(command)
            if self._agent.messages in ready:
                chunk = os.read(self._agent.messages, 65536)
                if not chunk:
                    return
                for line in self._lines.split(chunk):
                    self._relay(read_message(line))

    def end(self) -> int:
        """Ends the agent and gives its exit code; nothing of a probe is left. An agent that still imports has nothing
        to put away."""
        with shielded():
            exit_code = self._agent.close() if self._is_ready else self._agent.close(grace_s=0.0)
            if self._scratch is not None:
                shutil.rmtree(self._scratch, ignore_errors=True)  # an agent that was killed leaves it
            self._clear()
        return exit_code

    def _clear(self) -> str | None:
        """Leaves nothing of a probe behind; what its ranks wrote, None where the CLI has that."""
        remote_files, self._remote_files = self._remote_files, None
        return None if remote_files is None else remote_files.clear()

    def _obey(self, command: NodeCommand) -> None:
        if isinstance(command, RunProbes):
            self._start(command)
        elif isinstance(command, EndProbe):
            self._agent.send(command)
        elif isinstance(command, PutFile):
            self._put(Path(command.path), command.text)
        else:
            assert isinstance(command, FindPort)
            self._connection.send(PortFound(free_port(self._connection.own_address)))

    def _start(self, command: RunProbes) -> None:
        (probe,) = command.probes
        scratch = self._scratch = Path(probe.spec.scratch_path)
        self._kills_before = oom_kill_count() or 0
        if not self._connection.is_within_host:
            self._remote_files = RemoteFiles(probe)
            probe = self._remote_files.probe
            try:
                self._remote_files.prepare()
            except OSError as error:
                self._connection.send(Refused(explain(error, scratch)))
                return
        self._agent.send(RunProbes((probe,)))

    def _put(self, path: Path, text: str) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, text, mode=OURS)
        except OSError as error:
            self._connection.send(Refused(explain(error, path)))
        else:
            self._connection.send(FileWritten(str(path)))

    def _relay(self, message: Message) -> None:
        if isinstance(message, GroupEnded):
            self._end_probe(message)
        else:
            self._is_ready = self._is_ready or isinstance(message, Ready)
            self._connection.send(message)

    def _end_probe(self, ended: GroupEnded) -> None:
        assert self._scratch is not None
        if _left_nothing(ended) and disk_free_bytes(self._scratch) < _FULL_BYTES:
            self._connection.send(Refused(no_space(self._scratch)))
        self._scratch = None
        kills = (oom_kill_count() or 0) - self._kills_before
        self._connection.send(ProbeEnded(ended, kills, self._clear()))


def _left_nothing(ended: GroupEnded) -> bool:
    """Whether a rank that ended by itself could not even say why."""
    return any(end.report is None and not end.was_killed for end in ended.ends)

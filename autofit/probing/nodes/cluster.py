"""The agents of all nodes of a job: started once by DeepSpeed's own back end, asked together, ended together."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from autofit.domain.deepspeed_line import LaunchLine, Layout
from autofit.domain.event import Tell
from autofit.domain.hardware import Node
from autofit.domain.outcome import Outcome
from autofit.domain.script import ScriptFacts
from autofit.planning.script.script_setting import own_strategy
from autofit.probing.nodes.backend import Backend, Launch
from autofit.probing.nodes.joint_probe import JointProbe
from autofit.probing.nodes.node_handle import NodeHandle, check_alike
from autofit.probing.nodes.node_messages import answer_from, next_message, wait_until_gone
from autofit.probing.nodes.node_protocol import FileWritten, FindPort, PortFound, PutFile
from autofit.probing.nodes.rendezvous_server import RendezvousServer
from autofit.probing.nodes.roll_call import assemble
from autofit.probing.prober import OnHeartbeat
from autofit.probing.protocol import Ready, ScriptSpec
from autofit.process.build_locks.build_wait import WaitTeller
from autofit.process.signals import ShieldedExit

NODE = Path(__file__).with_name("node.py")
_IMPORT_S = 300.0  # an agent has this long for its imports: from a shared disk they take minutes
_END_S = 5.0  # nodes that are asked to end have this long, and their launcher as long again
_END_OF_LOST_S = 1.0  # the launcher, when a host cannot be reached


class Cluster(ShieldedExit):
    """The agents of a job, from `with` to its end. HostFailed, naming the host, for whatever keeps a host from taking
    part.

    `connect_timeout_s` is how long a host may take until it calls; `tell` hears for whom one has to wait.
    """

    def __init__(
        self,
        line: LaunchLine,
        layout: Layout,
        *,
        log_path: Path,
        tell: Tell = lambda text: None,
        connect_timeout_s: float = 60.0,
        launch: Launch = Backend,
    ) -> None:
        self._line = line
        self._layout = layout
        self._log_path = log_path
        self._tell = tell
        self._connect_timeout_s = connect_timeout_s
        self._launch = launch
        self._handles: list[NodeHandle] = []
        self._is_assembled = False
        self._probe_count = 0

    def __enter__(self) -> Cluster:
        self._rendezvous = RendezvousServer(self._layout)
        try:
            self._launched = self._launch(self._line, NODE, self._arguments(), self._log_path)
        except BaseException:
            self._rendezvous.close()
            raise
        self._began_at_s = time.monotonic()
        return self

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, each with the devices that the job uses there."""
        return tuple(_used(handle) for handle in self._all())

    @property
    def master_address(self) -> str:
        """The address at which the ranks meet, as DeepSpeed's launcher would have it."""
        inventory = self._all()[0].inventory
        assert inventory is not None
        return self._line.options.master_addr or inventory.master_address

    def free_port(self) -> int:
        """A port that is free where the ranks meet."""
        self.wait_ready()
        first = self._handles[0]
        first.send(FindPort())
        return answer_from(first, PortFound).port

    def wait_ready(self) -> Ready:
        """Waits until every agent has imported everything; `start_s` is since the launch."""
        handles = self._all()
        while late := [handle for handle in handles if not handle.is_ready]:
            handle, message = next_message(handles, late, _IMPORT_S)
            assert isinstance(message, Ready)
            handle.is_ready = True
        return Ready(time.monotonic() - self._began_at_s)

    def put_file(self, path: Path, text: str) -> None:
        """Writes a file onto every node, whole at every moment."""
        self.wait_ready()
        for handle in self._handles:
            handle.send(PutFile(str(path.absolute()), text))
        for handle in self._handles:
            answer_from(handle, FileWritten)

    def probe(self, spec: ScriptSpec, on_heartbeat: OnHeartbeat) -> Outcome:
        """Runs one probe on all nodes to its end, whatever that is."""
        return self._run(spec, on_heartbeat).outcome(spec.job.strategy, self._layout)

    def inspect(self, spec: ScriptSpec, on_heartbeat: OnHeartbeat) -> tuple[Outcome, ScriptFacts | None]:
        """Probes the script, without a strategy as it is, as `Agent.inspect` does."""
        run = self._run(spec, on_heartbeat)
        own = None if run.facts is None else own_strategy(run.facts)
        return run.outcome(spec.job.strategy or own, self._layout), run.facts

    def _arguments(self) -> list[str]:
        rendezvous, counts = self._rendezvous, [len(slots.slots) for slots in self._layout.hosts]
        return [
            *["--address", rendezvous.address, "--port", str(rendezvous.port)],
            *["--slots", ",".join(map(str, counts)), "--temporary", tempfile.gettempdir()],
            *["--timeout-s", str(self._connect_timeout_s)],
        ]

    def _all(self) -> list[NodeHandle]:
        """The nodes in the order of their ranks, once all have called."""
        if not self._is_assembled:
            assemble(
                self._rendezvous,
                self._launched,
                self._layout,
                self._handles,
                timeout_s=self._connect_timeout_s,
                log_path=self._log_path,
            )
            check_alike(self._handles, tempfile.gettempdir())
            for handle in self._handles:
                handle.on_wait = WaitTeller(self._tell, f"host {handle.host}: ")
            self._is_assembled = True
        return self._handles

    def _run(self, spec: ScriptSpec, on_heartbeat: OnHeartbeat) -> JointProbe:
        self.wait_ready()
        self._probe_count += 1
        probe = JointProbe(self._handles, spec, on_heartbeat)
        probe.run(os.getpid() * 1000 + self._probe_count)
        return probe

    def _close(self) -> None:
        """Hangs up; nodes do the same once nothing of theirs runs any more."""
        self._rendezvous.close()
        reached = [handle for handle in self._handles if not handle.is_lost]
        wait_until_gone(reached, _END_S)
        for handle in self._handles:
            handle.connection.close()
        self._launched.end(_END_S if len(reached) == len(self._handles) else _END_OF_LOST_S)


def _used(handle: NodeHandle) -> Node:
    assert handle.inventory is not None
    node = handle.inventory.node
    return replace(node, devices=node.devices[: len(handle.slots.slots)])

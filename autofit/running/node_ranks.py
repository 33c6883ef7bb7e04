"""The ranks that pdsh has started on the nodes: below no process of this machine, so ended through pdsh again."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import signal
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterable, Set
from dataclasses import dataclass
from tempfile import TemporaryFile

from autofit.domain.codec import decode
from autofit.process.best_effort_stream import BestEffortStream
from autofit.process.pdsh_call import PdshCall
from autofit.process.process_tree import end_all, living
from autofit.running import node_job
from autofit.running.grace_period import GracePeriod

_NODE = "%n"  # pdsh puts the host's number there
_CONNECT_S = 5
_REACH_S = 10.0  # to come to every node, and for Python to start there
_POLITE_S = 5.0  # pdsh ends by itself once every launch.py has ended


@dataclass(frozen=True)
class NodeRanks:
    call: PdshCall

    @staticmethod
    def read_from(file: int) -> NodeRanks:
        """The ranks as told by a launcher that has come to call pdsh; `file` is a descriptor."""
        return NodeRanks(decode(PdshCall, json.loads(_text(file))))

    def end(self, number: int, grace_s: float, handled: Set[signal.Signals]) -> None:
        """Sends the signal to each rank, and SIGKILL after the grace or a second signal; with them ends everything
        here.

        pdsh is left alone meanwhile, so that what the ranks have to say arrives.
        """
        left = self._end_on_hosts(number, grace_s, GracePeriod(handled, grace_s + _REACH_S))
        if not left:
            GracePeriod(handled, _POLITE_S).wait_until(lambda: not living())
        if living():  # a node that was cut off, or one that pdsh was still about to reach
            end_all(0.0)
            # Signals do not cut this short, or a third one would leave the ranks there.
            left = self._end_on_hosts(signal.SIGKILL, 0.0, GracePeriod(frozenset(), 2 * _REACH_S))
        if left:
            _warn(left)

    def _end_on_hosts(self, number: int, grace_s: float, grace_period: GracePeriod) -> list[str]:
        """Ends the ranks on all hosts; gives those that have not said in time that nothing is left on them."""
        job = (self.call.mark, self.call.value("--master_addr"), self.call.value("--master_port"), _NODE)
        with TemporaryFile() as output:
            process = subprocess.Popen(
                self.call.on_nodes("-c", _SOURCE, *job, str(int(number)), str(grace_s), connect_s=_CONNECT_S),
                env=dict(self.call.variables),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=_unblock_signals,
            )
            grace_period.wait_until(lambda: process.pid in grace_period.ended)
            process.returncode = grace_period.ended.get(process.pid, 0)  # one that still runs is ended with the rest
            return self._silent(_text(output.fileno()))

    def _silent(self, output: str) -> list[str]:
        done = {int(line.split()[-1]) for line in output.splitlines() if node_job.DONE in line}
        return [host for node, host in enumerate(self.call.hosts) if node not in done]


_SOURCE = shlex.quote(
    f"import base64; exec(base64.b64decode('{b64encode(inspect.getsource(node_job).encode()).decode()}'))"
)


def _text(file: int) -> str:
    """The whole content of a file, wherever those who share it have come to."""
    return os.pread(file, os.fstat(file).st_size, 0).decode()


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _warn(hosts: Iterable[str]) -> None:
    names = ", ".join(hosts)
    told = f"autofit: could not reach {names} to end the ranks there; end what is left of them by hand\n"
    BestEffortStream(sys.stderr).write(told)  # stderr writes each line at once

"""One probe of a script on all nodes of a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autofit.domain.deepspeed_line import Layout
from autofit.domain.errors import HostLost
from autofit.domain.outcome import NodeLost, Outcome, Phase
from autofit.domain.script import ScriptFacts
from autofit.domain.strategy import Strategy
from autofit.probing.classification import classify
from autofit.probing.nodes.merging import merge, with_host
from autofit.probing.nodes.node_handle import NodeHandle
from autofit.probing.nodes.node_messages import ANSWER_S, next_message
from autofit.probing.nodes.node_protocol import ProbeEnded
from autofit.probing.prober import OnHeartbeat
from autofit.probing.protocol import (
    EndProbe,
    GroupEnded,
    Heartbeat,
    RankMeasured,
    RunProbe,
    RunProbes,
    ScriptSeen,
    ScriptSpec,
)


class JointProbe:
    """One probe on all nodes: `facts` are what the script showed of itself, None where it came to no
    `deepspeed.initialize`; `lost` is set where the connection to a host broke meanwhile."""

    def __init__(self, handles: Sequence[NodeHandle], spec: ScriptSpec, on_heartbeat: OnHeartbeat) -> None:
        self._handles = handles
        self._spec = spec
        self._on_beat = on_heartbeat
        self._ended: dict[str, ProbeEnded] = {}
        self._phase = Phase.START
        self.lost: HostLost | None = None
        self.facts: ScriptFacts | None = None

    def run(self, number: int) -> None:
        """Runs the probe to its end. The others' ranks wait in a collective for ever when one node's share fails: end
        them at once."""
        for index, handle in enumerate(self._handles):
            handle.send(RunProbes((RunProbe(number, self._spec, index),)))
        try:
            self._until_ended(number)
        except HostLost as lost:  # whoever speaks to it again hears so: no probe goes on without a node
            self.lost = lost

    def _until_ended(self, number: int) -> None:
        while late := [handle for handle in self._handles if handle.host not in self._ended]:
            # Each agent ends a rank that is silent: more than that is its own silence.
            handle, message = next_message(self._handles, late, self._spec.heartbeat_timeout_s + ANSWER_S)
            if isinstance(message, ProbeEnded):
                self._end(handle, message)
                if _has_failed(message.group):
                    self._end_others(number)
            elif isinstance(message, ScriptSeen):
                self.facts = message.facts
            else:
                assert isinstance(message, Heartbeat)
                self._phase = message.phase
                self._on_beat(message.phase)

    def outcome(self, strategy: Strategy | None, layout: Layout) -> Outcome:
        """The outcome of all its ranks, once it has run; NodeLost where a node was lost meanwhile."""
        if self.lost is not None:
            return NodeLost(self.lost.host, self._phase, "the connection to it broke")
        ended = [self._ended[handle.host] for handle in self._handles]
        group = merge([one.group for one in ended], [handle.clock_ahead_s for handle in self._handles])
        outcome = classify(
            group,
            strategy,
            rank_count=self._spec.job.rank_count,
            oom_kills=sum(one.oom_kills for one in ended),
            log_path=self._spec.log_path,
        )
        return with_host(outcome, layout)

    def _end_others(self, number: int) -> None:
        for handle in self._handles:
            if handle.host not in self._ended:
                handle.send(EndProbe(number))

    def _end(self, handle: NodeHandle, ended: ProbeEnded) -> None:
        self._ended[handle.host] = ended
        if ended.log:
            with Path(self._spec.log_path).open("a", encoding="utf-8") as log:
                log.write(f"--- host {handle.host} ---\n{ended.log}\n")


def _has_failed(group: GroupEnded) -> bool:
    return any(not isinstance(end.report, RankMeasured) for end in group.ends)

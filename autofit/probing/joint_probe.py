"""One probe of a script on all nodes of a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autofit.domain.launch import Layout
from autofit.domain.outcome import Outcome
from autofit.domain.script import ScriptFacts
from autofit.domain.strategy import Strategy
from autofit.probing.classify import classify
from autofit.probing.hearing import ANSWER_S, next_of
from autofit.probing.member import Member
from autofit.probing.merging import merge, with_host
from autofit.probing.node_protocol import ProbeEnded
from autofit.probing.prober import OnBeat
from autofit.probing.protocol import (
    Beat,
    EndProbe,
    GroupEnded,
    RankMeasured,
    RunProbe,
    RunProbes,
    ScriptSeen,
    ScriptSpec,
)


class JointProbe:
    """`facts` are what the script showed of itself, None where it came to no `deepspeed.initialize`."""

    def __init__(self, members: Sequence[Member], spec: ScriptSpec, on_beat: OnBeat) -> None:
        self._members = members
        self._spec = spec
        self._on_beat = on_beat
        self._ended: dict[str, ProbeEnded] = {}
        self.facts: ScriptFacts | None = None

    def run(self, number: int) -> None:
        """To its end. The others' ranks wait in a collective for ever when one node's share fails: end them at once."""
        for index, member in enumerate(self._members):
            member.say(RunProbes((RunProbe(number, self._spec, index),)))
        while late := [member for member in self._members if member.host not in self._ended]:
            # Each agent ends a rank that is silent: more than that is its own silence.
            member, message = next_of(self._members, late, self._spec.beat_timeout_s + ANSWER_S)
            if isinstance(message, ProbeEnded):
                self._end(member, message)
                if _has_failed(message.group):
                    self._end_others(number)
            elif isinstance(message, ScriptSeen):
                self.facts = message.facts
            else:
                assert isinstance(message, Beat)
                self._on_beat(message.phase)

    def outcome(self, strategy: Strategy | None, layout: Layout) -> Outcome:
        """Of all its ranks, once it has run."""
        ended = [self._ended[member.host] for member in self._members]
        group = merge([one.group for one in ended], [member.clock_ahead_s for member in self._members])
        outcome = classify(
            group,
            strategy,
            rank_count=self._spec.job.rank_count,
            oom_kills=sum(one.oom_kills for one in ended),
            log_path=self._spec.log_path,
        )
        return with_host(outcome, layout)

    def _end_others(self, number: int) -> None:
        for member in self._members:
            if member.host not in self._ended:
                member.say(EndProbe(number))

    def _end(self, member: Member, ended: ProbeEnded) -> None:
        self._ended[member.host] = ended
        if ended.log:
            with Path(self._spec.log_path).open("a", encoding="utf-8") as log:
                log.write(f"--- host {member.host} ---\n{ended.log}\n")


def _has_failed(group: GroupEnded) -> bool:
    return any(not isinstance(end.report, RankMeasured) for end in group.ends)

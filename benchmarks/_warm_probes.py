"""autofit's own probes, asked for by hand: every strategy measured alike, again and again, in turns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from _case import RANKS, Case

from autofit.domain.outcome import Outcome
from autofit.domain.strategy import Strategy
from autofit.domain.workload import DataProfile
from autofit.hardware.cgroup import oom_kill_count
from autofit.planning.data.batch_widths import PAD_TO_MULTIPLE, typical_shapes, widths, worst_shape
from autofit.probing.agent import Agent
from autofit.probing.protocol import Job, ProbeSpec

BEAT_TIMEOUT_S = 300.0
TYPICAL_SHAPES = 32
PROBE_S = 1.5  # as in autofit's search


@dataclass(frozen=True)
class Prober:
    """Probes of one case by one warm agent."""

    case: Case
    agent: Agent
    profile: DataProfile
    folder: Path
    _numbers: Iterator[int] = field(default_factory=count)

    def probe(self, strategy: Strategy, measure_s: float = PROBE_S) -> Outcome:
        """`measure_s` is how long its measured steps should take."""
        spec = self._spec(strategy, self.folder / f"probe{next(self._numbers)}", measure_s)
        return self.agent.probe(spec, lambda phase: None)

    def _spec(self, strategy: Strategy, scratch: Path, measure_s: float) -> ProbeSpec:
        case, rows = self.case, strategy.micro_batch
        config = case.deepspeed_config(strategy)
        return ProbeSpec(
            job=Job(
                case.request,
                strategy,
                None if config is None else json.dumps(config),
                case.hardware.kind,
                RANKS,
                memory_limit_bytes=case.request.memory_limit_bytes,
                device_memory_bytes=case.hardware.device_memory_bytes,
            ),
            worst=(*widths(self.profile, PAD_TO_MULTIPLE[case.hardware.kind]), worst_shape(self.profile, rows)),
            typical=typical_shapes(self.profile, rows, TYPICAL_SHAPES),
            scratch_path=str(scratch),
            log_path=f"{scratch}.log",
            heartbeat_timeout_s=BEAT_TIMEOUT_S,
            has_save=True,
            measure_s=measure_s,
        )


@contextmanager
def warm_prober(case: Case, folder: Path) -> Iterator[Prober]:
    folder.mkdir()
    with Agent(kind=case.hardware.kind, log_path=folder / "agent.log", oom_kill_count=oom_kill_count) as agent:
        agent.wait_ready()
        yield Prober(case, agent, agent.survey(case.request, log_path=folder / "survey.log"), folder)

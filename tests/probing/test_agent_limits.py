"""An agent that waits or hangs: people hear for whom, and no wait is for ever."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from autofit.domain.errors import AutofitError, InternalError, UsageError
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.strategy import Strategy
from autofit.domain.trace import MicroStep
from autofit.domain.workload import BatchShape
from autofit.probing.agent import Agent
from autofit.probing.agent_process import AgentProcess
from autofit.probing.agent_program import Limits, Program
from autofit.probing.protocol import (
    AgentFailed,
    Job,
    Message,
    ProbeSpec,
    Ready,
    Refused,
    Traced,
    TraceProgress,
    to_line,
)
from autofit.process.build_locks.build_wait import BuildWait
from tests.builders import make_request, make_rung

REQUEST = make_request()
STRATEGY = Strategy(
    make_rung(1),
    1,
    4,
)
STEP = MicroStep(None, Attention.SDPA, GradientCheckpointing.OFF, Dtype.BF16, DeviceKind.CPU, 1, 64, False)
SHORT = Limits(start_s=120.0, survey_s=0.1, traces_s=0.1, answer_s=0.1)
WAITS = BuildWait("op", "/builds/op/lock", 12)

# In place of the agent: it says its lines, and nothing any more.
_SPEAKS = """
import os, sys
for line in {lines!r}:
    os.write(int(sys.argv[1]), line)
sys.stdin.read()
"""


class Stage:
    """Agents that say what they are told to, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[str] = []

    def agent(
        self,
        *says: Message,
        limits: Limits = SHORT,
        process: type[AgentProcess] = AgentProcess,
        oom_kill_count: Callable[[], int | None] = lambda: None,
    ) -> Agent:
        source = _SPEAKS.format(lines=[to_line(one) for one in says])
        program = Program(start=partial(process, program=(sys.executable, "-c", source)))
        log_path = self.folder / "agent.log"
        return Agent(
            kind=DeviceKind.CPU,
            log_path=log_path,
            oom_kill_count=oom_kill_count,
            tell=self.told.append,
            limits=limits,
            program=program,
        )

    def spec(self, heartbeat_timeout_s: float) -> ProbeSpec:
        job, shapes = Job(REQUEST, STRATEGY, "{}", DeviceKind.CPU, 2), (BatchShape(64, 64.0),)
        return ProbeSpec(job, shapes, shapes, str(self.folder / "scratch"), "probe.log", heartbeat_timeout_s, False)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def silent(what: str, within: str, log: str) -> str:
    return f"^{re.escape(what)} gave no sign of life for {re.escape(within)} and was ended. See in .*{re.escape(log)} "


def test_an_agent_that_does_not_start_is_ended_and_its_log_named(stage: Stage) -> None:
    with stage.agent(limits=Limits(start_s=0.1)) as agent:
        with pytest.raises(AutofitError, match=silent("the start of autofit's agent", "0.1 s", "agent.log")):
            agent.wait_ready()
        assert agent._process.exit_code is not None
        with pytest.raises(InternalError, match="ended"):
            agent.wait_ready()


def test_a_survey_and_traces_have_a_limit_too(stage: Stage) -> None:
    with (
        stage.agent(Ready(0.1)) as agent,
        pytest.raises(AutofitError, match=silent("the survey of the data", "0.1 s", "survey.log")),
    ):
        agent.survey(REQUEST, log_path=Path("survey.log"))
    with (
        stage.agent(Ready(0.1)) as agent,
        pytest.raises(AutofitError, match=silent("the traces of the model", "0.1 s", "trace.log")),
    ):
        agent.trace(REQUEST, (STEP,), log_path=Path("trace.log"))


@pytest.mark.parametrize(
    ("number", "kills", "said"),
    [
        (signal.SIGKILL, [0, 0], "autofit's agent was killed by SIGKILL; its log is .*agent.log"),
        (signal.SIGKILL, [2, 3], "autofit's agent was killed by the kernel: the host's memory ran out"),
        (signal.SIGSEGV, [2, 3], "autofit's agent crashed by SIGSEGV"),
    ],
)
def test_an_agent_that_a_signal_ended_is_no_bug_of_ours(
    stage: Stage, tmp_path: Path, number: int, kills: list[int], said: str
) -> None:
    """And what it would have taken away goes with it."""
    left = tmp_path / "left"
    left.mkdir()
    with stage.agent(Ready(0.1, str(left)), oom_kill_count=lambda: kills.pop(0)) as agent:
        agent.wait_ready()
        os.kill(agent._process.pid, number)
        with pytest.raises(AutofitError, match=said) as found:
            agent.survey(REQUEST, log_path=Path("survey.log"))
    assert not isinstance(found.value, InternalError)
    assert not left.exists()


def test_a_process_of_the_agents_that_a_signal_ended_is_no_bug_of_ours(stage: Stage) -> None:
    lost = AgentFailed("the survey of the data was killed by SIGKILL; its log is x", is_bug=False)
    with stage.agent(Ready(0.1), lost) as agent, pytest.raises(AutofitError, match="killed by SIGKILL") as found:
        agent.survey(REQUEST, log_path=Path("survey.log"))
    assert not isinstance(found.value, InternalError)


def test_how_far_traces_are_is_a_sign_of_life_and_told(stage: Stage) -> None:
    progress = TraceProgress(2, 5.0)
    seen: list[TraceProgress] = []
    with stage.agent(Ready(0.1), progress, progress, Traced(())) as agent:
        assert agent.trace(REQUEST, (STEP,), log_path=Path("trace.log"), on_progress=seen.append) == Traced(())
    assert seen == [progress, progress]


def test_an_agent_that_forgets_its_probe_is_ended(stage: Stage) -> None:
    with stage.agent(Ready(0.1)) as agent, pytest.raises(AutofitError, match=silent("a probe", "0.3 s", "agent.log")):
        agent.probe(stage.spec(heartbeat_timeout_s=0.2), lambda phase: None)
    assert not (stage.folder / "scratch").exists()


def test_to_wait_for_a_build_is_a_sign_of_life_and_told_once(stage: Stage) -> None:
    """Each of them may take as long as the start alone."""
    limits_s: list[float] = []

    class Patient(AgentProcess):
        def next_line(self, within_s: float) -> bytes | None:
            limits_s.append(within_s)
            return super().next_line(within_s)

    with stage.agent(*[WAITS] * 4, Ready(0.1), process=Patient) as agent:
        assert agent.wait_ready() == Ready(0.1)
    assert limits_s == [SHORT.start_s] * 5
    assert stage.told == [
        "waiting for process 12, which is building torch's extension op (its lock is /builds/op/lock)"
    ]


def test_a_build_that_is_kept_from_its_start_is_the_users_to_mend(stage: Stage) -> None:
    refused = Refused("process 12 has been at the build")
    with stage.agent(WAITS, refused) as agent, pytest.raises(UsageError, match=refused.message):
        agent.wait_ready()


def test_a_wait_within_a_probe_is_told(stage: Stage) -> None:
    with stage.agent(Ready(0.1), WAITS) as agent, pytest.raises(AutofitError, match="a probe"):
        agent.probe(stage.spec(heartbeat_timeout_s=0.2), lambda phase: None)
    assert len(stage.told) == 1

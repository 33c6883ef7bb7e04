"""What an agent's process is: the program, its environment, and how long it may say nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Protocol

from autofit.domain.hardware import DeviceKind
from autofit.probing.agent_process import AgentProcess
from autofit.probing.protocol import ONLY_TRACES
from autofit.process.python import script_environment, worker_environment


class StartProcess(Protocol):
    """Starts an agent's process; what it prints goes to `log`."""

    def __call__(self, environment: Mapping[str, str], log: IO[bytes], arguments: Sequence[str]) -> AgentProcess: ...


class MakeEnvironment(Protocol):
    """The environment of an agent on devices of `kind`."""

    def __call__(self, kind: DeviceKind) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class Program:
    """What an agent's process is told at its start: in which environment, and with which arguments."""

    environment: MakeEnvironment = worker_environment
    arguments: tuple[str, ...] = ()
    start: StartProcess = AgentProcess


OWN_TRAINING = Program()
TRACING = Program(arguments=(ONLY_TRACES,))  # it starts in half the time, and is asked for nothing but traces
USER_SCRIPT = Program(script_environment)  # all of the user's environment


@dataclass(frozen=True)
class Limits:
    """How long an agent may say nothing (s): generous, they are there for what hangs."""

    start_s: float = 600.0  # from a shared disk the imports take minutes; a build gives signs of life of its own
    survey_s: float = 3600.0  # the whole of the data is read, and perhaps downloaded
    description_s: float = 600.0
    traces_s: float = 1800.0
    answer_s: float = 120.0  # beyond the silence of a rank that it ends itself


USUAL_LIMITS = Limits()

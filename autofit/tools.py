"""What looks at the machine, remembers, and starts processes; a test brings its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from autofit.domain.event import TrainingEnded
from autofit.domain.hardware import Hardware
from autofit.foresight import StartTracer, start_tracer
from autofit.hardware.machine import detect
from autofit.probing.agent import Agent
from autofit.running.training import merge
from autofit.running.training import train as run_training
from autofit.store import Store, open_store


@dataclass(frozen=True)
class Tools:
    detect: Callable[..., Hardware] = detect
    start_agent: Callable[..., Agent] = Agent
    run_training: Callable[..., TrainingEnded] = run_training
    merge: Callable[..., None] = merge
    open_store: Callable[[], Store] = open_store
    start_tracer: StartTracer = start_tracer


REAL_TOOLS = Tools()

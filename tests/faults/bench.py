"""Faults in a probe and in a full run, from the order to what is left behind."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autofit.domain.errors import AutofitError
from autofit.domain.event import Note, RankEvent, TrainingEnded, TrainingProgress
from autofit.domain.hardware import DeviceKind
from autofit.hardware.cgroup import oom_kill_count
from autofit.probing.agent import Agent
from autofit.probing.agent_program import Limits
from autofit.process.saved_steps import last_whole, saved_step, torn
from autofit.report.outcome_text import verdict_text
from autofit.report.run_end_text import run_failure_text
from autofit.running import full_run
from autofit.running.supervision import USUAL, Supervision
from autofit.runs.run_folder import RunFolder
from tests.faults.fault import Fault
from tests.faults.job import Inputs
from tests.faults.saboteur import SURVEY, write_orders
from tests.faults.surroundings import Surroundings

_LIMITS = Limits()


@dataclass(frozen=True)
class Heard:
    """What rank 0 of a full run said, so many seconds after its start."""

    event: RankEvent
    after_s: float


@dataclass(frozen=True)
class Seen:
    """What came of a fault: its end as a value and as a sentence, how long that took, and what it has left."""

    end: Any
    sentence: str
    detected_s: float | None  # None where nothing was struck
    left: tuple[str, ...]
    heard: tuple[Heard, ...] = ()

    @property
    def steps(self) -> tuple[tuple[int, float], ...]:
        """The steps that rank 0 told of, each with its time (s)."""
        return tuple((one.event.step, one.after_s) for one in self.heard if isinstance(one.event, TrainingProgress))

    def check(self, fault: Fault) -> None:
        """AssertionError where it is not as the fault has it."""
        assert self.detected_s is not None, f"nothing was struck: {self.end}"
        assert fault.has_told(self.end, self.sentence), f"{self.end}: {self.sentence}"
        assert self.detected_s < fault.within_s
        assert self.left == ()


@dataclass(frozen=True)
class ProbeBench:
    """One warm agent for probe after probe: each finds it usable after the fault before it."""

    agent: Agent
    inputs: Inputs
    surroundings: Surroundings

    @classmethod
    @contextmanager
    def started(cls, inputs: Inputs, folder: Path, *, limits: Limits = _LIMITS) -> Iterator[ProbeBench]:
        surroundings = Surroundings(folder)
        with ExitStack() as ending:
            with surroundings.entered():  # no longer: other tests run meanwhile
                agent = ending.enter_context(
                    Agent(
                        kind=DeviceKind.CPU,
                        log_path=folder / "agent.log",
                        limits=limits,
                        oom_kill_count=oom_kill_count,
                    )
                )
            yield cls(agent, inputs, surroundings)

    def answer(self, fault: Fault, silence_s: float) -> tuple[object, str]:
        """What the agent answers, or is said of it, and the sentence."""
        folder = self.surroundings.folder
        try:
            if fault.order.where == SURVEY:
                return self.agent.survey(self.inputs.request, log_path=folder / "survey.log"), ""
            outcome = self.agent.probe(self.inputs.probe(folder, silence_s=silence_s), lambda phase: None)
        except AutofitError as error:
            return error, str(error)
        return outcome, verdict_text(outcome)

    def meet(self, fault: Fault, folder: Path, *, silence_s: float) -> Seen:
        """Probes while the fault happens; `folder` takes what the probe writes."""
        self.agent.wait_ready()
        before, spec = self.surroundings.now(), self.inputs.probe(folder, silence_s=silence_s)
        write_orders(self.surroundings.orders, fault.order)
        end = self.agent.probe(spec, lambda phase: None)
        detected_s = _since(self.surroundings)
        left = self.surroundings.left_behind(before)
        if Path(spec.scratch_path).exists():
            left += (spec.scratch_path,)
        return Seen(end, verdict_text(end), detected_s, left)


def lose_agent(inputs: Inputs, fault: Fault, folder: Path, *, silence_s: float, limits: Limits) -> Seen:
    """Asks an agent of its own for a survey or a probe while the fault happens, whichever it is of."""
    surroundings = Surroundings(folder)
    before = surroundings.now()
    with ProbeBench.started(inputs, folder, limits=limits) as bench:
        bench.agent.wait_ready()
        write_orders(surroundings.orders, fault.order)
        end, sentence = bench.answer(fault, silence_s)
        detected_s = _since(surroundings)
    return Seen(end, sentence, detected_s, surroundings.left_behind(before))


@dataclass(frozen=True)
class RunBench:
    """A run folder in which a search might have chosen, and its training, again and again."""

    inputs: Inputs
    folder: Path

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.folder / "run")

    @property
    def surroundings(self) -> Surroundings:
        return Surroundings(self.folder, mark=str(self.folder))

    def train(
        self,
        fault: Fault | None = None,
        *,
        supervision: Supervision = USUAL,
    ) -> Seen:
        """Trains from where the folder stands, while the fault happens."""
        if fault is not None and fault.silence_s is not None:
            supervision = replace(supervision, least_stall_s=fault.silence_s)
        surroundings, files = self.surroundings, self.inputs.prepare(self.run)
        heard, began_s = list[Heard](), time.monotonic()
        with surroundings.entered(*(() if fault is None else (fault.order,))):
            before = surroundings.now()
            end = full_run.train(
                self.inputs.hardware,
                files,
                self.run.training_log,
                lambda event: heard.append(Heard(event, time.monotonic() - began_s)),
                supervision=supervision,
            )
            detected_s = _since(surroundings)
        notes = " ".join(event.text for event in (one.event for one in heard) if isinstance(event, Note))
        sentence = notes if isinstance(end, TrainingEnded) else run_failure_text(end, self.run.training_log)
        return Seen(end, sentence, detected_s, surroundings.left_behind(before), tuple(heard))

    def check_kept(self, fault: Fault) -> None:
        """AssertionError where training was lost: the last checkpoint is the one that was due, each is whole, and every
        line that was told can be read."""
        checkpoints = self.run.checkpoints
        last = last_whole(checkpoints)
        step = None if last is None else saved_step(last)
        # A rank that was stopped is woken for its stacks, and may come further before it is ended.
        is_later = fault.silence_s is not None and (step or 0) > (fault.saved_step or 0)
        assert step == fault.saved_step or is_later, f"checkpoint {step}"
        assert torn(checkpoints) == []
        losses(self.run.progress)


def losses(progress: Path) -> dict[int, float]:
    """The losses by step, each as it was first told."""
    lines = progress.read_text().splitlines() if progress.exists() else []
    told = [one for one in map(json.loads, lines) if one["type"] == "TrainingProgress" and one["loss"] is not None]
    return {one["step"]: one["loss"] for one in reversed(told)}


def _since(surroundings: Surroundings) -> float | None:
    """Seconds since the fault happened."""
    struck = surroundings.struck
    return None if struck is None else time.time() - struck.at_s

"""The suite's real probes: one warm agent, started anew when a configuration takes it along."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import TracebackType

from _recording import Model, Recording, Row, widened
from _suite_configurations import Configuration, make_model

from autofit.app.context import Context
from autofit.app.probe_specs import ProbeSpecs
from autofit.app.tools import start_tracer
from autofit.domain.errors import AutofitError
from autofit.domain.hardware import Hardware
from autofit.domain.outcome import Crashed, Outcome, Phase
from autofit.domain.trial import Probe, Trial
from autofit.hardware.cgroup import oom_kill_count
from autofit.hardware.machine import detect_here
from autofit.hardware.nvml import VendorNvml
from autofit.inputs.model_files import read_model_files
from autofit.planning.memory.activations import micro_step
from autofit.planning.plan.fit import judge
from autofit.probing.agent import Agent
from autofit.probing.agent_program import Limits
from autofit.probing.protocol import ProbeSpec
from autofit.runs.run_folder import RunFolder

MEASURE_S = 1.0
LAST_LINES = 15
ANSWER_S = 30.0  # an agent that is silent for so much longer than a rank may be is ended


def environment_of(device: str) -> Mapping[str, str]:
    """As detection sees it: with `--device cpu` the machine has no GPU."""
    return os.environ | {"DS_ACCELERATOR": "cpu"} if device == "cpu" else os.environ


def one_device(device: str, folder: Path) -> Hardware:
    return detect_here(folder, ranks=1, environment=environment_of(device))


def make_models(names: Sequence[str], hardware: Hardware, root: Path) -> None:
    for name in names:
        make_model(name, hardware.kind, root / name)


def traced(hardware: Hardware, wanted: Sequence[Configuration], root: Path) -> Recording:
    """An empty recording with the traces that the configurations need; what cannot be traced is told on the way."""
    names = list(dict.fromkeys(each.model for each in wanted))
    shapes = [replace(read_model_files(str(root / name), needs_weights=False).shape, name=name) for name in names]
    recording = Recording(hardware, tuple(Model(shape, ()) for shape in shapes))
    with start_tracer(root / "tracer.log") as tracer:
        models = tuple(_traced(model, recording, wanted, tracer, root) for model in recording.models)
    return replace(recording, models=models)


def _traced(model: Model, recording: Recording, wanted: Sequence[Configuration], tracer: Agent, root: Path) -> Model:
    own = [each for each in wanted if each.model == model.shape.name]
    steps = dict.fromkeys(
        micro_step(each.strategy.rung, each.micro_batch, recording.setting(each)) for each in own
    )  # fmt: skip
    answer = tracer.trace(own[0].request(str(root / own[0].model)), tuple(steps), log_path=root / "trace.log")
    for failure in answer.failures:
        print(f"{model.shape.name}: no trace ({failure.why})", flush=True)
    return replace(model, traces=answer.traces)


def last_words(folder: Path) -> str:
    """The ends of the newest log of each place below `folder`."""
    newest = {log.parent: log for log in sorted(folder.rglob("*.log"), key=lambda log: log.stat().st_mtime)}
    ends = ["\n".join(log.read_text(errors="replace").splitlines()[-LAST_LINES:]) for log in newest.values()]
    return "\n".join(end for end in ends if end)


class Watch:
    """What the driver says is taken on a GPU beyond what was taken at first: the runtime, the allocator, NCCL."""

    def __init__(self, hardware: Hardware) -> None:
        self._uuid = hardware.devices[0].uuid
        self._before_bytes = self._taken_bytes()
        self.most_bytes: int | None = None

    def poll(self) -> None:
        taken_bytes = self._taken_bytes()
        if taken_bytes is not None and self._before_bytes is not None:
            self.most_bytes = max(self.most_bytes or 0, taken_bytes - self._before_bytes)

    def _taken_bytes(self) -> int | None:
        if self._uuid is None:  # a CPU
            return None
        found = [gpu for gpu in VendorNvml().read().gpus if gpu.uuid == self._uuid]
        return found[0].memory_total_bytes - found[0].memory_free_bytes if found else None


class Bench:
    """Tries configurations one after the other; whatever one does, the next finds a whole agent."""

    def __init__(self, recording: Recording, root: Path) -> None:
        self._recording, self._root = recording, root
        self._numbers = count(1)
        self._last = root
        self._open = ExitStack()
        self._agent: Agent | None = None

    def __enter__(self) -> Bench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end_agent()

    def start(self, limit_s: float) -> None:
        """The agent, where there is none: its imports are no configuration's time. AutofitError beyond the limit."""
        if self._agent is not None:
            return
        log_path = self._root / "agent" / "agent.log"
        log_path.parent.mkdir(exist_ok=True)
        kind = self._recording.hardware.kind
        agent = self._open.enter_context(
            Agent(
                kind=kind, log_path=log_path, oom_kill_count=oom_kill_count, limits=Limits(limit_s, answer_s=ANSWER_S)
            )
        )
        try:
            agent.wait_ready()
        except AutofitError:
            self._end_agent()
            raise
        self._agent = agent

    def row(self, configuration: Configuration, limit_s: float) -> Row:
        """Tried for `limit_s` seconds at most, after `start`."""
        setting, strategy = self._recording.setting(configuration), configuration.strategy
        wanted = micro_step(strategy.rung, strategy.micro_batch, setting)
        estimate = self._recording.estimate(configuration)
        watch = Watch(self._recording.hardware)
        outcome = self._outcome(configuration, limit_s, watch)
        return Row(
            configuration,
            Trial(strategy, estimate, outcome, configuration.is_rehearsal),
            judge(strategy, estimate, setting).verdict,
            has_trace=any(trace.of == wanted for trace in setting.traces),
            driver_bytes=watch.most_bytes,
        )

    def _outcome(self, configuration: Configuration, limit_s: float, watch: Watch) -> Outcome:
        began_at_s, phase = time.monotonic(), Phase.START

        def beat(entered: Phase) -> None:
            nonlocal phase
            phase = entered
            watch.poll()

        try:
            return self._ask(self._spec(configuration, limit_s), beat)
        except AutofitError as error:
            self._end_agent()
            return Crashed(0, phase, str(error), total_s=time.monotonic() - began_at_s)

    def _ask(self, spec: ProbeSpec, beat: Callable[[Phase], None]) -> Outcome:
        agent = self._agent
        assert agent is not None
        if spec.job.is_rehearsal:
            return agent.rehearse((spec,), lambda strategy, phase: beat(phase))[0]
        return agent.probe(spec, beat)

    def _spec(self, configuration: Configuration, limit_s: float) -> ProbeSpec:
        """The specification that a search makes, but for the save of a large model, and with a limit that no heartbeat
        of its ranks moves."""
        self._last = self._root / f"run{next(self._numbers)}"
        folder = RunFolder(self._last)
        folder.create()
        request = configuration.request(str(self._root / configuration.model))
        shape = self._recording.setting(configuration).shape
        scene = Context(request, widened(self._recording.hardware, configuration), shape)
        specs = ProbeSpecs(scene, configuration.profile, folder, folder.root, limit_s)
        strategy = configuration.strategy
        spec = (
            specs.rehearsals((strategy,), ())[0]
            if configuration.is_rehearsal
            else specs.probe(Probe(strategy, "of the suite"), ())
        )
        return replace(spec, has_save=configuration.has_save, measure_s=MEASURE_S, time_limit_s=limit_s)

    def last_words(self) -> str:
        """Of the configuration that was tried last, and of the agent."""
        return "\n".join(last_words(folder) for folder in (self._root / "agent", self._last))

    def _end_agent(self) -> None:
        self._agent = None
        self._open.close()

"""What the real allocator says: runs in a fresh process forked from a warm one, one case or one trace each."""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from _memory_cases import Case, make_model

from autofit.domain.hardware import DeviceKind
from autofit.domain.trace import MicroStep, Trace
from autofit.domain.workload import BatchShape
from autofit.planning.export.deepspeed_config import deepspeed_config
from autofit.planning.plain_torch import is_plain
from autofit.planning.setting import Setting
from autofit.probing.protocol import Job, ProbeSpec

T = TypeVar("T")
CASE_TIMEOUT_S = 180.0
MEASURED_STEPS = 1


@dataclass(frozen=True)
class Truth:
    """Of one rehearsal, from before the model was built: the allocator's peak, and its highest mark in each phase."""

    peak_bytes: int
    by_phase: dict[str, int]


class Forker:
    """Processes forked from one that has imported everything."""

    def __init__(self, log: Path, timeout_s: float = CASE_TIMEOUT_S) -> None:
        os.environ.update(DS_ACCELERATOR="cpu", LOCAL_SIZE="1", TOKENIZERS_PARALLELISM="false", OMP_NUM_THREADS="1")
        paths = [str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)  # the template hears of no other
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            [
                "autofit.worker.agent.preload",
                "autofit.worker.training.training_probe",
                "_memory_truth",
                "_counted_engine",
            ]
        )
        self._log, self._timeout_s = str(log), timeout_s

    def call(self, function: Callable[..., T], *arguments: object) -> T:
        """What `function` returns in a fresh process; RuntimeError with its words when it fails or takes too long."""
        receiving, sending = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_answer, args=(sending, self._log, function, arguments))
        process.start()
        sending.close()
        try:
            if not receiving.poll(self._timeout_s):
                raise RuntimeError(f"no answer in {self._timeout_s:.0f} s; see {self._log}")
            answer, error = receiving.recv()
        except EOFError:
            raise RuntimeError(f"it died; see {self._log}") from None
        finally:
            process.kill()
            process.join()
        if error is not None:
            raise RuntimeError(error)
        return answer  # type: ignore[no-any-return]


def build_model(name: str, folder: str) -> None:
    make_model(name, Path(folder))


def trace_steps(model: str, steps: Iterable[MicroStep]) -> tuple[Trace, ...]:
    from autofit.worker.model.configuration import load_config
    from autofit.worker.trace.micro_step_trace import trace

    asked = tuple(steps)
    scores = any(step.task.traits.scores for step in asked)
    config = load_config(model, trust_remote_code=False, scores=scores)
    return tuple(trace(config, step) for step in asked)


def measure(case: Case, setting: Setting) -> Truth:
    """Rehearses `case` as rank 0: trl's trainer on DeepSpeed or, at stage 0, on torch's DDP, build to save."""
    _be_rank_0(case.rank_count)
    import torch
    from torch.profiler import ProfilerActivity, profile

    from autofit.domain.outcome import Phase
    from autofit.worker.rank.lifecycle import Rank
    from autofit.worker.training import probe_rows, training_probe

    torch.set_num_threads(1)
    probe_rows.most_measured = lambda measure_s: MEASURED_STEPS
    marks: list[tuple[int, str]] = [(0, Phase.START.value)]
    with tempfile.TemporaryDirectory() as scratch:
        spec = _spec(case, setting, scratch)
        rank = Rank(spec.job, lambda phase, step: marks.append((_now_ns(), phase.value)))
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            training_probe.run(spec, rank, Path(scratch, "store"))
    changes = [(e.start_ns(), e.nbytes()) for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    return _truth(sorted(changes, key=lambda change: change[0]), marks)


def _spec(case: Case, setting: Setting, scratch: str) -> ProbeSpec:
    strategy, request = case.strategy, setting.request
    config = None
    if not is_plain(strategy.rung, setting):
        made = deepspeed_config(strategy, request, setting.shape, DeviceKind.CPU, setting.bucket_elements)
        config = json.dumps(made)
    job = Job(request, strategy, config, DeviceKind.CPU, case.rank_count, is_rehearsal=True)
    short = case.tokens - 1 if case.is_padded else case.tokens
    sequences = request.sequences(case.micro_batch)
    mean = (case.tokens + short * (sequences - 1)) / sequences
    shape = BatchShape(case.tokens, mean)
    return ProbeSpec(job, (shape,), (shape,), scratch, f"{scratch}/log", CASE_TIMEOUT_S, has_save=True, measure_s=0.01)


def _truth(changes: list[tuple[int, int]], marks: list[tuple[int, str]]) -> Truth:
    """Replays what was taken (+) and given back (-), in the order of time."""
    held_bytes, phase, highest = 0, marks[0][1], dict.fromkeys((name for _, name in marks), 0)
    left = marks[1:]
    for at_ns, change_bytes in changes:
        while left and left[0][0] <= at_ns:
            phase = left.pop(0)[1]
            highest[phase] = max(highest[phase], held_bytes)
        held_bytes += change_bytes
        highest[phase] = max(highest[phase], held_bytes)
    return Truth(max(highest.values()), highest)


def _be_rank_0(rank_count: int) -> None:
    os.environ.update(
        RANK="0", LOCAL_RANK="0", WORLD_SIZE=str(rank_count), LOCAL_SIZE="1", MASTER_ADDR="127.0.0.1", MASTER_PORT="1"
    )


def _now_ns() -> int:
    import time

    return time.time_ns()


def _answer(sending: Any, log: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    with _output_into(log):
        try:
            answer = function(*arguments), None
        except BaseException as error:  # whatever it is, the other side must hear of it
            import traceback

            traceback.print_exc()
            answer = None, f"{type(error).__name__}: {error}"[:300]
    sending.send(answer)


@contextmanager
def _output_into(log: str) -> Iterator[None]:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    yield

"""A probe of a script on one rank, from the first engine that it makes to the last measured step."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import torch
from deepspeed.runtime.pipe.module import PipelineModule

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.outcome import Phase, Place
from autofit.planning.probe_steps import MEMORY_STEPS, is_uniform, most_measured, whole_periods
from autofit.probing.protocol import FailureKind, RankFailed, RankMeasured, RankReport, ScriptSpec
from autofit.worker.deepspeed.engine_hook import EngineCall
from autofit.worker.deepspeed.engine_watch import StepListener, StepWatch
from autofit.worker.rank.failure import rank_failed
from autofit.worker.rank.lifecycle import Rank, print_traceback
from autofit.worker.rank.measured_steps import (
    NOT_FINITE,
    Course,
    Pace,
    ProbedSteps,
    rank_measured,
)
from autofit.worker.rank.out_of_memory import free_device_bytes
from autofit.worker.rank.process_group import unlink_shared_memory
from autofit.worker.script.runtime_patches import apply_patches
from autofit.worker.script.script_facts import facts_of
from autofit.worker.script.script_observer import ScriptObserver
from autofit.worker.script.training_length import scheduler_steps

# Skipped steps in a row: a loss scale of 2^32 is halved 32 times and a little more; bf16 has none.
_SCALING_STEPS, _SKIPPED_STEPS = 40, 3

Leave = Callable[[RankReport], NoReturn]  # ends this process without another line of the user's code


class ScriptProbe(StepListener):
    """Ends the script as soon as everything is measured, or as soon as it is plain that nothing can be."""

    def __init__(self, spec: ScriptSpec, rank: Rank, observer: ScriptObserver, leave: Leave) -> None:
        self._spec = spec
        self._rank = rank
        self._observer = observer
        self._leave = leave
        self._engine: Any = None  # of several the first is the one that is watched
        self._steps: ProbedSteps | None = None  # of that engine

    def refuse(self, why: str, kind: FailureKind = FailureKind.UNSUPPORTED) -> NoReturn:
        self._leave(RankFailed(kind, self._rank.phase, Place.DEVICE, why, time.time()))

    # --- the engine ---------------------------------------------------------------------------------------------------

    def before_engine(self, call: EngineCall) -> None:
        if isinstance(call.model, PipelineModule):
            self.refuse("the script trains a pipeline (PipelineModule): its configuration cannot be tuned")
        self._rank.enter(Phase.INITIALIZE)
        facts = facts_of(call)
        if self._engine is None:
            self._observer.take_engine(facts)
        try:
            apply_patches(call.model, self._spec.job.turns, zero_stage=facts.zero_stage)
        except (ValueError, ImportError) as error:
            self.refuse(str(error))

    def after_engine(self, engine: Any) -> None:
        unlink_shared_memory()
        if self._engine is not None:
            return
        self._engine = engine
        self._observer.take_scheduler_steps(scheduler_steps(engine.lr_scheduler))
        micro_batch = self._observer.facts.micro_batch
        course = _course(self._spec, self._observer.generation_steps)
        self._steps = ProbedSteps(self._rank, course, micro_batch=micro_batch, device=engine.device)
        StepWatch(engine, self)
        self._steps.meter.begin()

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Stands around what the engine does: a script that swallows an out-of-memory error, or tries less, must not
        look as if it fitted."""
        try:
            yield
        except BaseException as error:
            report = self._failure(error)
            if report.kind is FailureKind.OUT_OF_MEMORY:
                print_traceback()
                self._leave(report)
            raise

    def _failure(self, error: BaseException) -> RankFailed:
        return rank_failed(
            error,
            self._rank.phase,
            is_on_cpu=self._spec.job.kind is DeviceKind.CPU,
            peak_bytes=self._rank.meter.peak_device_bytes(),
            free_device_bytes=free_device_bytes(),
        )

    # --- its steps ----------------------------------------------------------------------------------------------------

    @property
    def _watched(self) -> ProbedSteps:
        assert self._steps is not None
        return self._steps

    def forward(self, batch: Any) -> None:
        self._watched.forward(batch)
        self._observer.take_batch(batch, self._engine.get_lr())
        rows = self._observer.facts.rows
        if rows is not None and self._spec.job.rows not in (None, rows):
            self.refuse(f"the script makes its own batches of {rows} rows: its micro-batch cannot be turned")

    def backward(self) -> None:
        self._watched.backward()

    def update(self) -> None:
        self._watched.update()
        self._observer.take_update(self._engine.get_lr())

    def micro_step_end(self) -> None:
        self._watched.micro_step_end()
        self._observer.tell()

    def step_end(self, *, was_skipped: bool) -> None:
        steps = self._watched
        steps.step_end(was_skipped=was_skipped)
        self._observer.tell()
        if steps.skipped_count == (_SKIPPED_STEPS if self._observer.facts.dtype is Dtype.BF16 else _SCALING_STEPS):
            self.refuse(NOT_FINITE, FailureKind.NOT_FINITE)  # a script that skips for ever would never be measured
        if steps.is_over:
            self._finish(steps)

    # --- its end ------------------------------------------------------------------------------------------------------

    def _finish(self, steps: ProbedSteps) -> NoReturn:
        tokens_per_micro_batch = steps.mean_tokens()
        torch.distributed.barrier()  # a rank that leaves early would break the others' last collective
        self._leave(self._measured(steps, tokens_per_micro_batch))

    def script_ended(self, code: object) -> NoReturn:
        """Leaves the report of a script that ended by itself; `code` is as SystemExit has it."""
        steps = self._steps
        if isinstance(code, str):
            print(code, file=sys.stderr)  # as Python does
        if not code and steps is not None and steps.meter.has_measured:
            self._leave(self._measured(steps, steps.own_mean_tokens()))
        if code and self._observer.complaint is not None:
            self.refuse(f"the script's own parser refuses its arguments: {self._observer.complaint}")
        count = f"{self._rank.step} optimizer step{'' if self._rank.step == 1 else 's'}"
        how = f" with exit code {code if isinstance(code, int) else 1}" if code else ""
        self.refuse(f"the script ended by itself{how} after {count}")

    def _measured(self, steps: ProbedSteps, tokens_per_micro_batch: float) -> RankMeasured:
        return rank_measured(self._rank.meter, steps, tokens_per_micro_batch)


def _course(spec: ScriptSpec, period: int) -> Course:
    """The steps of the probe; where no number of them is asked for, as many as the time is for. Where every `period`-th
    step generates, one step alone tells nothing."""
    count = None if spec.measured_steps is None else max(1, spec.measured_steps)
    first, is_even = MEMORY_STEPS + 1, period == 1
    return Course(
        MEMORY_STEPS,
        range(first, first + whole_periods(count or most_measured(spec.measure_s), period)),
        spec.measure_s,
        count,
        is_uniform=is_even and is_uniform(spec.job.kind, has_even_rows=True),  # every batch is as the script makes it
        pace=Pace.of(spec.least_tokens_per_s, spec.job.strategy) if is_even else None,
        period=period,
    )

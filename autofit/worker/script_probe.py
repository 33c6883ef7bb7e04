"""What a probe sees of a script on one rank, from the first engine that it makes to the last measured step."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NoReturn

import torch
from deepspeed.runtime.pipe.module import PipelineModule

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.outcome import Phase, Place
from autofit.domain.script import Checkpoint, Counting, ScriptFacts
from autofit.probing.protocol import FailureKind, RankFailed, RankMeasured, RankReport, ScriptSpec
from autofit.worker.batch_sight import look_at
from autofit.worker.engine_hook import EngineCall
from autofit.worker.failure import rank_failed
from autofit.worker.measuring import MEMORY_STEPS, NOT_FINITE, rank_measured, steps_in
from autofit.worker.micro_meter import MicroMeter
from autofit.worker.out_of_memory import free_device_bytes
from autofit.worker.rank import Rank, print_traceback, unlink_shared_memory
from autofit.worker.rate_watch import RateWatch
from autofit.worker.script_facts import facts_of
from autofit.worker.seclusion import Escapes
from autofit.worker.step_questions import StepQuestions
from autofit.worker.step_watch import StepListener, StepWatch
from autofit.worker.turning import turn

# Skipped steps in a row: a loss scale of 2^32 is halved 32 times and a little more; bf16 has none.
_SCALING_STEPS, _SKIPPED_STEPS = 40, 3

Leave = Callable[[RankReport], NoReturn]  # ends this process without another line of the user's code
See = Callable[[ScriptFacts], None]


class ScriptProbe(StepListener):
    """Ends the script as soon as everything is measured, or as soon as it is plain that nothing can be."""

    def __init__(self, spec: ScriptSpec, rank: Rank, questions: StepQuestions, see: See, leave: Leave) -> None:
        self._spec = spec
        self._questions = questions
        self._rank = rank
        self._see = see
        self._leave = leave
        self._facts: ScriptFacts | None = None
        self._told: ScriptFacts | None = None
        self._engine: Any = None  # of several the first is the one that is watched
        self._rates = RateWatch()
        self._epoch_rows: int | None = None
        self._loads_from: str | None = None  # the first of several
        self._checkpoint: Checkpoint | None = None
        self._device = torch.device("cpu")
        self._meter = MicroMeter()
        self._last_step: int | None = None  # known after the memory steps
        self._skipped_count = 0  # in a row

    escapes: Escapes | None = None  # of this process, once it is secluded

    def refuse(self, why: str) -> NoReturn:
        self._leave(RankFailed(FailureKind.UNSUPPORTED, self._rank.phase, Place.DEVICE, why, time.time()))

    # --- the engine ---------------------------------------------------------------------------------------------------

    def before_engine(self, call: EngineCall) -> None:
        if isinstance(call.model, PipelineModule):
            self.refuse("the script trains a pipeline (PipelineModule): its configuration cannot be tuned")
        self._rank.enter(Phase.INITIALIZE)
        facts = facts_of(call)
        if self._engine is None:
            self._facts = facts
            self._tell()
        try:
            turn(call.model, self._spec.job.turns, zero_stage=facts.zero_stage)
        except (ValueError, ImportError) as error:
            self.refuse(str(error))

    def after_engine(self, engine: Any) -> None:
        unlink_shared_memory()
        if self._engine is not None:
            return
        self._engine = engine
        self._device = engine.device
        StepWatch(engine, self)
        self._meter.begin()

    def _tell(self) -> None:
        """What is new of the facts."""
        if self._rank.index != 0 or self._facts is None:
            return
        facts = replace(
            self._facts,
            counting=self._counting(),
            loads_from=self._loads_from,
            checkpoint=self._checkpoint,
            escaped=() if self.escapes is None else self.escapes.paths,
        )
        if facts != self._told:
            self._told = facts
            self._see(facts)

    def _counting(self) -> Counting:
        rates = self._rates
        return Counting(self._questions.asks, self._epoch_rows, tuple(rates.of_steps), rates.moves_with_batches)

    def load(self, folder: str, found: Checkpoint | None) -> None:
        """The script loads a checkpoint; a trainer before its engine is made."""
        if self._loads_from is None or self._checkpoint is None:
            self._loads_from, self._checkpoint = folder, found
        self._tell()

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """A script that swallows an out-of-memory error, or tries less, must not look as if it fitted."""
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
            on_cpu=self._spec.job.kind is DeviceKind.CPU,
            peak_bytes=self._rank.meter.peak_device_bytes(),
            free_device_bytes=free_device_bytes(),
        )

    # --- its steps ----------------------------------------------------------------------------------------------------

    def forward(self, batch: Any) -> None:
        assert self._facts is not None
        self._rank.enter(Phase.FORWARD)
        sight = look_at(batch, self._facts.micro_batch)
        self._meter.add_tokens(sight.real_tokens)
        self._rates.micro_batch(self._engine.get_lr())
        if self._facts.rows is None and sight.rows is not None:
            self._facts = replace(self._facts, rows=sight.rows, tokens=sight.tokens)
            self._epoch_rows = self._questions.epoch_rows
            self._tell()
            self._check_rows(sight.rows)

    def _check_rows(self, rows: int) -> None:
        if self._spec.job.rows not in (None, rows):
            self.refuse(f"the script makes its own batches of {rows} rows: its micro-batch cannot be turned")

    def backward(self) -> None:
        self._rank.enter(Phase.BACKWARD)

    def update(self) -> None:
        self._rank.enter(Phase.STEP)
        self._rates.update(self._engine.get_lr())

    def micro_step_end(self) -> None:
        self._meter.end_micro_step()
        self._tell()

    def step_end(self, *, was_skipped: bool) -> None:
        step_s = self._meter.end_step(is_measured=not was_skipped and self._rank.step >= MEMORY_STEPS)
        self._count_skipped(was_skipped)
        self._tell()
        if was_skipped:
            return  # Adam's state has not appeared yet
        self._rank.step += 1
        if self._rank.step == MEMORY_STEPS:
            self._last_step = MEMORY_STEPS + self._measured_steps(step_s)
        if self._rank.step == self._last_step:
            self._finish()

    def _count_skipped(self, was_skipped: bool) -> None:
        """A script that skips for ever would never be measured."""
        assert self._facts is not None
        self._skipped_count = self._skipped_count + 1 if was_skipped else 0
        if self._skipped_count == (_SKIPPED_STEPS if self._facts.dtype is Dtype.BF16 else _SCALING_STEPS):
            self.refuse(NOT_FINITE)

    def _measured_steps(self, step_s: float) -> int:
        if self._spec.measured_steps is not None:
            return max(1, self._spec.measured_steps)
        return steps_in(self._spec.measure_s, step_s, self._device)

    # --- its end ------------------------------------------------------------------------------------------------------

    def _finish(self) -> NoReturn:
        sums = torch.tensor([self._meter.tokens, float(self._meter.micro_batch_count)], device=self._device)
        torch.distributed.all_reduce(sums)
        torch.distributed.barrier()  # a rank that leaves early would break the others' last collective
        self._leave(self._measured(float(sums[0] / sums[1])))

    def script_ended(self, code: object) -> NoReturn:
        """`code` as SystemExit has it."""
        meter = self._meter
        if isinstance(code, str):
            print(code, file=sys.stderr)  # as Python does
        if not code and meter.last_s:
            self._leave(self._measured(meter.tokens / meter.micro_batch_count))
        steps = f"{self._rank.step} optimizer step{'' if self._rank.step == 1 else 's'}"
        how = f" with exit code {code if isinstance(code, int) else 1}" if code else ""
        self.refuse(f"the script ended by itself{how} after {steps}")

    def _measured(self, tokens_per_micro_batch: float) -> RankMeasured:
        return rank_measured(self._rank.meter, self._meter, tokens_per_micro_batch)

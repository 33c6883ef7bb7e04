"""What a script has shown of itself so far, told to whoever asked for its probe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from autofit.domain.script import Counting, LoadedCheckpoint, ScriptFacts
from autofit.domain.training_length import SeenLength
from autofit.worker.script.isolation.isolation import Escapes
from autofit.worker.script.learning_rates import LearningRateWatch
from autofit.worker.script.observed_batch import observe_batch
from autofit.worker.script.step_questions import StepQuestions
from autofit.worker.script.trainer_rows import TrainerRows

See = Callable[[ScriptFacts], None]


class ScriptObserver:
    """The facts of the first engine, and what comes to them while the script goes on; `see` hears each that is new."""

    escapes: Escapes | None = None  # of this process, once it is isolated

    def __init__(self, questions: StepQuestions, see: See | None) -> None:
        self._questions = questions
        self._see = see
        self._facts: ScriptFacts | None = None
        self._told: ScriptFacts | None = None
        self._rates = LearningRateWatch()
        self._epoch_rows: int | None = None
        self._length = SeenLength()
        self._rows = TrainerRows()
        self._loads_from: str | None = None  # the first of several
        self._checkpoint: LoadedCheckpoint | None = None
        self._accumulation_flag: str | None = None
        self.complaint: str | None = None  # of the script's parser of arguments, the last one

    @property
    def facts(self) -> ScriptFacts:
        """The facts, once an engine has been asked for."""
        assert self._facts is not None
        return self._facts

    @property
    def generation_steps(self) -> int:
        """The optimizer steps after which a step is like the first one again, generation and all."""
        return self._rows.generation_steps or 1

    def take_accumulation_flag(self, flag: str) -> None:
        """Takes the flag by which a parser of the script takes gradient accumulation, before an engine is made."""
        self._accumulation_flag = self._accumulation_flag or flag

    def take_complaint(self, words: str) -> None:
        self.complaint = words

    def take_engine(self, facts: ScriptFacts) -> None:
        self._facts = facts
        self.tell()

    def take_trainer_steps(self, count: int) -> None:
        """Takes the steps that a trainer is going to take; it counts them before its engine is made."""
        self._length = replace(self._length, trainer_steps=count)

    def take_rows(self, rows: TrainerRows) -> None:
        """Takes how a trainer's rows depend on each other; it begins before its engine is made."""
        self._rows = rows

    def take_scheduler_steps(self, count: int | None) -> None:
        self._length = replace(self._length, scheduler_steps=count)
        self.tell()

    def take_checkpoint(self, folder: str, found: LoadedCheckpoint | None) -> None:
        """Takes a checkpoint that the script loads; a trainer does so before its engine is made."""
        if self._loads_from is None or self._checkpoint is None:
            self._loads_from, self._checkpoint = folder, found
        self.tell()

    def take_batch(self, batch: Any, rates: Sequence[float]) -> None:
        """Takes a batch before its forward pass, with the learning rates of then."""
        self._rates.micro_batch(rates)
        if self.facts.rows is not None:
            return
        observed = observe_batch(batch, self.facts.micro_batch)
        if observed.rows is not None:
            self._facts = replace(self.facts, rows=observed.rows, tokens=observed.tokens)
            self._epoch_rows = self._questions.epoch_rows
            if (batches := self._questions.epoch_batches) is not None:
                self._length = replace(self._length, epoch_rows=batches * self.facts.micro_batch)
            self.tell()

    def take_update(self, rates: Sequence[float]) -> None:
        """Takes the learning rates before an optimizer step."""
        self._rates.update(rates)

    def tell(self) -> None:
        """Tells what is new, if anything is."""
        if self._see is None or self._facts is None:
            return
        facts = replace(
            self._facts,
            counting=self._counting(),
            loads_from=self._loads_from,
            checkpoint=self._checkpoint,
            length=self._length,
            tie=self._rows.tie,
            accumulation_flag=self._accumulation_flag,
            generates=self._rows.generation_steps is not None,
            escaped=() if self.escapes is None else self.escapes.paths,
        )
        if facts != self._told:
            self._told = facts
            self._see(facts)

    def _counting(self) -> Counting:
        rates = self._rates
        return Counting(self._questions.asks, self._epoch_rows, tuple(rates.of_steps), rates.moves_with_batches)

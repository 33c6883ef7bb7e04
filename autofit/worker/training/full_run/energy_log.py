"""The energy of a full run, between the first and the last of its log lines."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from autofit.probing.protocol import RankEnergy
from autofit.worker.energy.energy_meter import EnergyMeter
from autofit.worker.rank.seldom import Seldom


class EnergyLog(TrainerCallback):
    """Measures what this rank takes for its share of the tokens, evaluations and checkpoints between them included.

    Where not every step is logged, steps after the last line count without their tokens: errs high by less than a
    line's share.
    """

    def __init__(self, meter: EnergyMeter) -> None:
        self._meter = meter
        self._look_seldom = Seldom(meter.look)
        self._first_tokens: float | None = None
        self._tokens = 0.0
        self.energy: RankEnergy | None = None

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, Any], **_: Any
    ) -> None:
        if "num_tokens" not in logs:
            return
        self._tokens = float(logs["num_tokens"])
        if self._first_tokens is None:
            self._first_tokens = self._tokens
            self._meter.begin()
        self._look_seldom()

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._first_tokens is not None and self._tokens > self._first_tokens:
            self.energy = self._meter.end((self._tokens - self._first_tokens) / args.world_size)

"""The energy of a training by its log lines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from autofit.probing.protocol import RankEnergy
from autofit.worker.training.full_run.energy_log import EnergyLog


class Meter:
    def __init__(self) -> None:
        self.begun_count = 0

    def begin(self) -> None:
        self.begun_count += 1

    def look(self) -> None:
        """Nothing to keep."""

    def end(self, tokens: float) -> RankEnergy:
        return RankEnergy(tokens, None, None)


def ended(*lines: dict[str, Any]) -> tuple[Meter, RankEnergy | None]:
    meter = Meter()
    log, args = EnergyLog(meter), SimpleNamespace(world_size=2)  # type: ignore[arg-type]
    for line in lines:
        log.on_log(args, None, None, line)  # type: ignore[arg-type]
    log.on_train_end(args, None, None)  # type: ignore[arg-type]
    return meter, log.energy


def test_tokens_after_the_first_line_count_and_each_rank_has_its_share() -> None:
    """A resumed training's first line counts what was learned before, too."""
    meter, energy = ended({"loss": 2.0, "num_tokens": 1000.0}, {"eval_loss": 1.0}, {"loss": 1.9, "num_tokens": 1300.0})
    assert meter.begun_count == 1
    assert energy == RankEnergy(150.0, None, None)


def test_a_training_of_one_line_says_nothing() -> None:
    assert ended({"loss": 2.0, "num_tokens": 1000.0})[1] is None
    assert ended()[1] is None

"""What a training does where nothing fits as it was asked for: names the last resorts, or goes on with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autofit.domain.errors import NothingFits
from autofit.domain.event import Chosen, GaveUp, LadderBuilt, Note, TrialEnded
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.pins import Pins
from autofit.domain.outcome import OutOfMemory
from tests.app.test_train import REQUEST, Stage, strategies
from tests.planning.lean import lean

__all__ = ["lean"]
pytestmark = pytest.mark.usefixtures("lean")

PARAMETERS, LIMIT_BYTES = 40_000_000, 1_000_000_000
"""AdamW's leanest rungs are expected to take 966 MB, and 846 MB with 8-bit moments."""

CAPACITY_BYTES = 440_000_000
"""In truth they take 450 MB and 410 MB here."""

FULL = replace(REQUEST, pins=Pins(method=Method.FULL), memory_limit_bytes=LIMIT_BYTES)
ALLOWED = replace(FULL, allow=("last-resorts",))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return tight(tmp_path)


def tight(root: Path) -> Stage:
    stage = Stage(root)
    stage.machine.capacity_bytes, stage.machine.tracer.parameter_count = CAPACITY_BYTES, PARAMETERS
    return stage


def test_where_nothing_fits_the_last_resorts_that_would_are_named(stage: Stage) -> None:
    with pytest.raises(NothingFits):
        stage.train(FULL)
    (gave_up,) = stage.told(GaveUp)
    assert stage.machine.specs, "it was tried"
    assert all(spec.job.strategy.rung.optimizer is Optimizer.ADAMW for spec in stage.machine.specs)
    assert "--allow adamw_8bit" in [resort.flag for resort in gave_up.action.resorts]


def test_what_was_named_is_what_helps(stage: Stage) -> None:
    stage.train(replace(FULL, allow=("adamw_8bit",)))
    record = stage.folder.read_record()
    assert record.choice is not None
    assert record.choice.strategy.rung.optimizer is Optimizer.ADAMW_8BIT
    assert record.choice.plain is None
    assert "nothing plain fits" in record.choice.why


def test_with_all_last_resorts_allowed_the_search_goes_on_with_all_its_trials(stage: Stage) -> None:
    stage.train(ALLOWED)
    assert len(stage.told(LadderBuilt)) == 2
    plain, leaner = stage.told(LadderBuilt)
    assert {step.rung for step in plain.ladder.steps} < {step.rung for step in leaner.ladder.steps}
    (note,) = [note.text for note in stage.told(Note) if "last resort" in note.text]
    assert "AdamW with 8-bit moments (moments are rounded to 8 bits" in note
    tried = [told.trial for told in stage.told(TrialEnded)]
    assert len({(one.strategy, one.is_rehearsal) for one in tried}) == len(tried), "nothing is tried twice"
    firsts = [one.strategy.rung.optimizer for one in tried if isinstance(one.outcome, OutOfMemory)]
    assert firsts[0] is Optimizer.ADAMW
    (chosen,) = stage.told(Chosen)
    assert chosen.choice.strategy.rung.optimizer.value.startswith("adamw_")
    assert chosen.choice.strategy.rung.optimizer is not Optimizer.ADAMW
    assert stage.folder.read_record().choice == chosen.choice


def test_an_interrupted_search_among_last_resorts_goes_on_where_it_was(stage: Stage, tmp_path: Path) -> None:
    undisturbed = tight(tmp_path / "undisturbed")
    undisturbed.train(ALLOWED)
    tried = strategies(undisturbed)
    first_lean = next(i for i, one in enumerate(tried) if one.rung.optimizer is not Optimizer.ADAMW)
    stage.interrupt_at_probe(first_lean + 2)
    with pytest.raises(KeyboardInterrupt):
        stage.train(ALLOWED)
    stage.go_on()
    stage.train(ALLOWED)
    assert strategies(stage) == tried
    assert stage.folder.read_choice() == undisturbed.folder.read_choice()


def test_another_allow_begins_another_search(stage: Stage) -> None:
    with pytest.raises(NothingFits):
        stage.train(FULL)
    stage.train(ALLOWED)
    assert list(stage.folder.root.glob("earlier/*")), "what was searched before is kept"

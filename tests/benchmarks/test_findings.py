"""The decision benchmark's rows and whether its aims are met."""

from __future__ import annotations

from dataclasses import replace

import pytest
from _autofit_run import Decision
from _autotuner import Tuned
from _case import strategy
from _cold_job import ColdJob
from _findings import Length, Parties, Row, Warm, aims, rows
from _verdict import Speed

from autofit.domain.knobs.method import Method

PLAIN, CHECKPOINTED = strategy(Method.FULL, 1, False, 1, 4), strategy(Method.FULL, 1, True, 2, 4)
WARM = Warm(60.0, 2, {PLAIN: 100.0, CHECKPOINTED: 90.0}, {PLAIN: Speed.of([100.0]), CHECKPOINTED: Speed.of([90.0])})
LENGTH = Length.of(600.0, 100.0, 50)
OURS = Decision(PLAIN, 10.0, 3, 2, 8.0, "it is the fastest")
AGAIN = Decision(PLAIN, 4.0, 0, 0, 0.0, "it was measured")
COLD = [ColdJob(PLAIN, 20.0, 80.0), ColdJob(CHECKPOINTED, 22.0, 85.0), ColdJob(PLAIN, 5.0, failure="out_of_memory")]
PARTIES = Parties([OURS], [AGAIN], COLD, [Tuned(400.0, 9, CHECKPOINTED, 4, is_cut_off=False)])


def told(parties: Parties) -> dict[str, Row]:
    return {row.name: row for row in rows(parties, WARM, LENGTH)}


def met(parties: Parties) -> list[bool | None]:
    return list(aims(parties, rows(parties, WARM, LENGTH)).values())


def test_a_training_is_as_many_whole_steps_as_the_best_does_in_its_time() -> None:
    assert (LENGTH.step_count, LENGTH.tokens) == (1200, 60_000)
    assert Length.of(1.0, 1.0, 4096).step_count == 1


def test_each_way_to_decide_has_its_time_its_pick_and_what_that_gives_away() -> None:
    found = {name: (row.decide_s, row.ratio, row.picks, row.regret) for name, row in told(PARTIES).items()}
    assert found["autofit"] == (10.0, 1.0, (PLAIN,), 0.0)
    assert found["everything, warm"] == (60.0, 6.0, (PLAIN,), 0.0)
    assert found["everything, cold"] == (47.0, 4.7, (CHECKPOINTED,), 1 - 90 / 100)
    assert found["DeepSpeed's autotuner"] == (400.0, 40.0, (CHECKPOINTED,), 1 - 90 / 100)
    assert told(PARTIES)["autofit"].tries == "3 probes, 2 rehearsals"


def test_the_time_to_the_end_is_deciding_and_training_over_training_with_the_best() -> None:
    found = told(PARTIES)
    assert found["autofit"].to_end == pytest.approx((10.0 + 600.0) / 600.0)
    assert found["DeepSpeed's autotuner"].to_end == pytest.approx((400.0 + 60_000 / 90.0) / 600.0)


def test_what_does_not_train_has_no_end() -> None:
    gone = Decision(strategy(Method.FULL, 3, False, 1, 4), 10.0, 3, 0, 8.0, "it ran out of memory afterwards")
    found = told(replace(PARTIES, autofit=[OURS, gone]))["autofit"]
    assert found.to_end is None
    assert met(replace(PARTIES, autofit=[OURS, gone]))[1] is None


def test_rounds_count_by_their_medians() -> None:
    slow = replace(OURS, decide_s=100.0, probe_count=9, strategy=CHECKPOINTED)
    found = told(replace(PARTIES, autofit=[slow, OURS, replace(OURS, decide_s=12.0)]))["autofit"]
    assert (found.decide_s, found.regret, found.picks) == (12.0, 0.0, (CHECKPOINTED, PLAIN))
    assert found.to_end == pytest.approx(612.0 / 600.0)
    assert found.tries == "3 probes, 2 rehearsals"


def test_aims_are_met_or_missed() -> None:
    assert met(PARTIES) == [True, True, True]
    slow = Decision(CHECKPOINTED, 100.0, 5, 0, 90.0, "it is not the fastest")
    assert met(replace(PARTIES, autofit=[slow], again=[slow])) == [False, False, False]


def test_ways_that_were_not_asked_for_have_no_row() -> None:
    assert list(told(replace(PARTIES, cold=(), tuned="not asked for"))) == [
        "autofit", "autofit, the second time", "everything, warm"
    ]  # fmt: skip


def test_one_that_was_cut_off_is_told_so() -> None:
    found = told(replace(PARTIES, tuned=[Tuned(600.0, 30, None, None, is_cut_off=True)]))
    assert found["DeepSpeed's autotuner, cut off"].to_end is None

"""The decision benchmark's rows and whether its aims are met."""

from __future__ import annotations

from dataclasses import replace

from _autofit_run import Decision
from _autotuner import Tuned
from _case import strategy
from _cold_job import ColdJob
from _findings import Parties, Warm, aims, rows
from _verdict import Speed

from autofit.domain.knobs.method import Method

PLAIN, CHECKPOINTED = strategy(Method.FULL, 1, False, 1, 4), strategy(Method.FULL, 1, True, 2, 4)
WARM = Warm(60.0, 2, {PLAIN: 100.0, CHECKPOINTED: 90.0}, {PLAIN: Speed.of([100.0]), CHECKPOINTED: Speed.of([90.0])})
OURS = Decision(PLAIN, 10.0, 3, 2, 8.0, "it is the fastest")
COLD = [ColdJob(PLAIN, 20.0, 80.0), ColdJob(CHECKPOINTED, 22.0, 85.0), ColdJob(PLAIN, 5.0, failure="out_of_memory")]
PARTIES = Parties(OURS, OURS, COLD, Tuned(400.0, 9, CHECKPOINTED, 4, is_cut_off=False))


def met(parties: Parties) -> list[bool | None]:
    return list(aims(parties, rows(parties, WARM)).values())


def test_each_way_to_decide_has_its_time_its_pick_and_what_that_gives_away() -> None:
    told = {row.name: (row.decide_s, row.ratio, row.pick, row.regret) for row in rows(PARTIES, WARM)}
    assert told["autofit"] == (10.0, 1.0, PLAIN, 0.0)
    assert told["everything, warm"] == (60.0, 6.0, PLAIN, 0.0)
    assert told["everything, cold"] == (47.0, 4.7, CHECKPOINTED, 1 - 90 / 100)
    assert told["DeepSpeed's autotuner"] == (400.0, 40.0, CHECKPOINTED, 1 - 90 / 100)
    assert rows(PARTIES, WARM)[0].tries == "3 probes, 2 rehearsals"


def test_aims_are_met_or_missed() -> None:
    assert met(PARTIES) == [True, True, True]
    slow = Decision(CHECKPOINTED, 100.0, 5, 0, 90.0, "it is not the fastest")
    assert met(replace(PARTIES, autofit=slow)) == [False, False, False]


def test_an_autotuner_that_found_nothing_says_nothing_of_its_speed() -> None:
    gave_up = Tuned(20.0, 1, None, None, is_cut_off=False)
    assert met(replace(PARTIES, tuned=gave_up))[0] is None
    assert met(replace(PARTIES, tuned="it is missing"))[0] is None


def test_one_that_was_cut_off_took_at_least_as_long() -> None:
    assert met(replace(PARTIES, tuned=Tuned(600.0, 30, None, None, is_cut_off=True)))[0] is True

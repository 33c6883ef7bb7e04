"""Which rungs of a large ladder have a line, and what is said of the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.plan import Verdict
from autofit.domain.strategy import Rung
from autofit.report.ladder.families import Entry, folded_text, opened
from autofit.report.line import plain
from autofit.report.plan.plan_figures import Terms
from autofit.report.plan.plan_table import plan_table
from tests.builders import make_rung
from tests.report.test_plan_screens import PLAN, candidate

OFF, EVERY_2, SELECTIVE, ON, OFFLOAD = GradientCheckpointing


def rungs(*stages: int, method: Method = Method.FULL, **values: object) -> Iterator[Rung]:
    """Every rung of some families, with the least checkpointing first."""
    for checkpointing, stage in product(GradientCheckpointing, stages):
        yield make_rung(stage, method=method, gradient_checkpointing=checkpointing, **values)


def test_of_each_family_the_best_one_has_a_line() -> None:
    lora = list(rungs(1, 2, 3, method=Method.LORA))
    full = list(rungs(2, 3)) + list(rungs(2, offload=Offload.OPTIMIZER))
    lines = opened([Entry(rung) for rung in (*lora, *full)])
    assert lines == {*lora[:3], *full[:2], full[10]}


def test_beside_the_best_that_is_not_sure_stands_the_best_that_is() -> None:
    one = list(rungs(2))
    entries = [Entry(rung, is_sure=rung.gradient_checkpointing in (SELECTIVE, ON)) for rung in one]
    assert opened(entries) == {one[0], one[2]}


def test_what_is_kept_and_the_best_with_each_optimizer_have_a_line_in_a_ladder_of_hundreds() -> None:
    many = [
        rung
        for optimizer, offload in product(Optimizer, Offload)
        for rung in rungs(0, 1, 2, 3, optimizer=optimizer, offload=offload)
    ]
    pinned = many[137]
    lines = opened([Entry(rung, is_kept=rung is pinned) for rung in many])
    assert pinned in lines
    assert {next(rung for rung in many if rung.optimizer is optimizer) for optimizer in Optimizer} <= lines
    assert len(lines) <= 1 + len(Optimizer)


def test_what_has_no_line_is_counted_by_what_it_is() -> None:
    one = list(rungs(2))
    other = list(rungs(3, offload=Offload.ALL))
    names = {rung: str(rung) for rung in (*one, *other)}
    assert folded_text("that may fit", [*one[1:], *other], one[:1], names) == (
        "+ 9 more that may fit: 4 like these with gc-every-2, gc-selective, gc or gc-offload, "
        "5 of other families (zero3+offload-all)"
    )
    assert folded_text("waiting", one[:1], one[1:], names) == "+ 1 more waiting: like these with no gc"


def test_a_plan_of_many_rungs_shows_each_family_once_and_counts_all() -> None:
    speeds = dict(zip(GradientCheckpointing, (2.0, 2.4, 2.6, 2.7, 2.72), strict=True))
    many = []
    for stage, (checkpointing, step_s) in product((1, 2, 3), speeds.items()):
        one = candidate(f"zero{stage}", 4, Verdict.FITS, step_s=step_s)
        rung = replace(one.strategy.rung, gradient_checkpointing=checkpointing)
        many.append(replace(one, strategy=replace(one.strategy, rung=rung)))
    many.sort(key=lambda one: -one.estimate.speed.tokens_per_s if one.estimate else 0)
    lines = plain(plan_table(replace(PLAN, candidates=tuple(many), choice=many[0]), Terms())).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["zero1", "zero2", "zero3"]
    assert " ".join(" ".join(lines[4:]).split()) == (
        "+ 12 more that may fit: like these with gc-every-2, gc-selective, gc or gc-offload"
    )


def test_a_rival_of_the_pick_in_its_family_has_a_line() -> None:
    pick, rival, slower = (
        replace(
            candidate("zero3", 1, Verdict.PROBE, step_s=step_s),
            strategy=replace(
                candidate("zero3", 1, Verdict.PROBE).strategy,
                rung=make_rung(3, gradient_checkpointing=checkpointing, optimizer=Optimizer.LOMO),
            ),
        )
        for checkpointing, step_s in ((ON, 2.0), (OFFLOAD, 2.02), (EVERY_2, 2.4))
    )
    lines = plain(plan_table(replace(PLAN, candidates=(pick, rival, slower), choice=pick), Terms())).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["zero3+gc+lomo", "zero3+gc-offload+lomo"]
    assert lines[3] == "+ 1 more that may fit: like these with gc-every-2"

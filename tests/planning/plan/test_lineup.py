"""The strategies of a comparison: the baseline, and it with one thing more, all at one micro-batch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.comparison import Compared, Dimension, DoesNotFit, NotCompared, Optimization
from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.pins import Pins
from autofit.domain.strategy import Strategy
from autofit.planning.plan.lineup import Lineup, RuledOut, line_up, turned
from autofit.planning.plan.predicted_comparison import predict_comparison
from autofit.planning.setting import Setting
from autofit.planning.space.ladder_builder import make_step
from tests.builders import make_rung, make_shape
from tests.planning import simulated as sim

SMALL = make_shape("small", 24, 1024, 330_000_000)


def scene(memory_gb: float = 40, baseline: str | None = None, count: int = 4, **asked: object) -> Setting:
    kind = DeviceKind.CUDA
    made = sim.setting(sim.hardware(count, memory_gb, kind=kind), SMALL, tokens=512, **asked)  # type: ignore[arg-type]
    return replace(made, request=replace(made.request, baseline=baseline))


def names(lineup: Lineup) -> dict[Optimization, str]:
    return {one: "" if isinstance(beside, NotCompared) else str(beside) for one, beside in lineup.others}


def test_each_one_is_the_baseline_with_one_thing_more() -> None:
    lineup = line_up(scene())

    assert str(lineup.baseline.strategy) == "zero0 mb8"
    assert lineup.why is None
    assert names(lineup) == {
        Optimization.ZERO_1: "zero1 mb8",
        Optimization.ZERO_2: "zero2 mb8",
        Optimization.ZERO_3: "zero3 mb8",
        Optimization.CHECKPOINTING: "zero0+gc mb8",
        Optimization.LORA: "zero0+lora mb8",
        Optimization.OFFLOAD: "zero2+offload mb8",
    }


def test_offload_keeps_a_stage_that_can_carry_it() -> None:
    assert turned(make_rung(3), Optimization.OFFLOAD) == make_rung(3, offload=Offload.OPTIMIZER)
    assert turned(make_rung(0), Optimization.OFFLOAD) == make_rung(2, offload=Offload.OPTIMIZER)


@pytest.mark.parametrize(("memory_gb", "micro_batch"), [(16, 8), (12, 4), (10, 2)])
def test_the_micro_batch_is_the_largest_at_which_every_row_fits(memory_gb: float, micro_batch: int) -> None:
    whole = predict_comparison(scene(memory_gb))
    larger = predict_comparison(scene(memory_gb, f"zero0 mb{2 * micro_batch}")) if micro_batch < 8 else None

    assert whole.baseline.strategy.micro_batch == micro_batch
    assert all(isinstance(row.standing, Compared) for row in whole.rows)
    assert larger is None or not larger.baseline.fits


def test_a_baseline_that_does_not_fit_gives_way_to_the_plainest_that_does() -> None:
    setting = sim.setting(sim.hardware(8, 80))  # 7 B parameters: 16 bytes each are too many for one device

    found = predict_comparison(setting)

    assert str(found.baseline.strategy.rung) == "zero1"
    assert found.why == "zero0 does not fit"
    standings = {row.optimization: row.standing for row in found.rows}
    assert standings[Optimization.ZERO_1] == NotCompared("the baseline has it")
    offload = standings[Optimization.OFFLOAD]
    assert isinstance(offload, Compared)
    assert str(offload.rated.strategy.rung) == "zero1+offload"


def test_a_row_that_is_not_expected_to_fit_says_why() -> None:
    found = predict_comparison(sim.setting(sim.hardware(8, 30)))

    standings = {row.optimization: row.standing for row in found.rows}
    small = standings[Optimization.ZERO_1]
    assert str(found.baseline.strategy.rung) == "zero3"
    assert isinstance(small, DoesNotFit)
    assert small.strategy.rung.zero_stage == 1
    assert "of 30.0 GB" in small.why


def test_where_nothing_fits_the_plainest_is_the_baseline_and_that_is_said() -> None:
    found = predict_comparison(sim.setting(sim.hardware(1, 2)))

    assert not found.baseline.fits
    assert str(found.baseline.strategy.rung) == "zero0"
    assert found.why == "nothing fits"
    assert not found.baseline.cost.is_measured


def test_a_baseline_may_be_named_with_its_micro_batch() -> None:
    lineup = line_up(scene(baseline="zero3+gc mb2"))

    assert str(lineup.baseline.strategy) == "zero3+gc mb2"
    assert lineup.why == "asked for"
    assert line_up(scene(1, baseline="zero3+gc mb2")).why == "asked for, and does not fit"
    assert names(lineup)[Optimization.ZERO_1] == "zero1+gc mb2"
    assert dict(lineup.others)[Optimization.CHECKPOINTING] == NotCompared("the baseline has it")
    with pytest.raises(UsageError, match="--baseline zero9"):
        line_up(scene(baseline="zero9"))


def test_what_probes_ruled_out_is_no_baseline() -> None:
    setting = scene()
    first = line_up(setting).baseline.strategy

    smaller = line_up(setting, RuledOut().after(first, has_failed=False)).baseline.strategy
    other = line_up(setting, RuledOut().after(first, has_failed=True))

    assert smaller == Strategy(first.rung, first.micro_batch // 2, first.gradient_accumulation * 2)
    assert str(other.baseline.strategy) == "zero1 mb8"
    assert other.why == "zero0 does not run"


def test_what_a_pin_leaves_out_and_what_is_pointless_say_so() -> None:
    pinned = dict(line_up(scene(pins=Pins(method=Method.FULL))).others)
    alone = dict(line_up(scene(count=1)).others)

    assert pinned[Optimization.LORA] == NotCompared("--method full leaves it out")
    assert alone[Optimization.ZERO_3] == NotCompared("its ZeRO stage divides nothing on one device")
    assert isinstance(alone[Optimization.ZERO_1], Strategy)


def test_a_checkpointed_row_takes_less_memory_and_more_time() -> None:
    found = predict_comparison(scene())
    row = next(row for row in found.rows if row.optimization is Optimization.CHECKPOINTING)

    assert isinstance(row.standing, Compared)
    assert row.standing.rated.strategy.rung.gradient_checkpointing is GradientCheckpointing.ON
    speed_up, memory_up = row.ratio(Dimension.SPEED), row.ratio(Dimension.MEMORY)
    assert speed_up is not None
    assert memory_up is not None
    assert speed_up < 1 < memory_up
    assert row.ratio(Dimension.ENERGY) is None


def test_rows_beside_a_baseline_need_not_be_worth_a_search() -> None:
    """Checkpointing of every second layer is left out of ladders where none surely fits, as beside ZeRO-1 here."""
    setting = scene(12, baseline="zero0+gc-every-2 mb1")

    found = predict_comparison(setting)

    row = next(row for row in found.rows if row.optimization is Optimization.ZERO_1)
    assert isinstance(row.standing, Compared)
    assert row.standing.rated.strategy not in make_step(row.standing.rated.strategy.rung, setting).strategies


def test_what_is_no_combination_with_the_baseline_says_why() -> None:
    beside = dict(line_up(scene(baseline="zero3+offload-all mb1")).others)

    assert beside[Optimization.ZERO_1] == NotCompared("only stage 3 can move parameters to host memory")

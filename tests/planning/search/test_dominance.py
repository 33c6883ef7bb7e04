"""What certainly needs no less device memory than something else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Trial
from autofit.planning.search.dominance import needs_no_less
from autofit.planning.search.exclusion import is_ruled_out
from autofit.planning.search.search_state import SearchState
from tests.builders import make_rung
from tests.planning import simulated as sim

PLAIN = Strategy(make_rung(2), 2, 2)
MEMORY = sim.ladder(sim.setting()).steps[0].estimates[0].memory


def changed(**values: Any) -> Strategy:
    return replace(PLAIN, rung=replace(PLAIN.rung, **values))


@pytest.mark.parametrize(
    "values",
    [
        {"zero_stage": 1}, {"method": Method.FULL}, {"gradient_checkpointing": GradientCheckpointing.OFF},
        {"offload": Offload.NONE},
    ],
)  # fmt: skip
def test_less_of_a_saving_needs_no_less(values: dict[str, Any]) -> None:
    lean = changed(method=Method.LORA, gradient_checkpointing=GradientCheckpointing.ON, offload=Offload.OPTIMIZER)
    heavy = replace(lean, rung=replace(lean.rung, **values))
    assert needs_no_less(heavy, lean, MEMORY, MEMORY)
    assert not needs_no_less(lean, heavy, MEMORY, MEMORY)


@pytest.mark.parametrize("values", [{"dtype": Dtype.FP32}, {"attention": Attention.EAGER}])
def test_nothing_follows_across_values_without_an_order(values: dict[str, Any]) -> None:
    other = changed(**values)
    assert not needs_no_less(PLAIN, other, MEMORY, MEMORY)
    assert not needs_no_less(other, PLAIN, MEMORY, MEMORY)


def test_the_estimate_decides_unless_all_parameters_stand_against_an_adapter() -> None:
    less = replace(MEMORY, activations_bytes=MEMORY.activations_bytes - 1)
    assert needs_no_less(PLAIN, replace(PLAIN, micro_batch=1), MEMORY, MEMORY)
    assert not needs_no_less(PLAIN, replace(PLAIN, micro_batch=1), less, MEMORY)
    assert needs_no_less(PLAIN, changed(method=Method.LORA), less, MEMORY)
    assert not needs_no_less(replace(PLAIN, micro_batch=1), PLAIN, MEMORY, MEMORY)


@pytest.mark.parametrize("has_fitted_alone", [False, True])
def test_what_has_fitted_alone_is_not_ruled_out_by_another_that_should_need_less(has_fitted_alone: bool) -> None:
    """A rung may hold more than it should, one that is leaner by its estimate as well."""
    scene = sim.setting(sim.hardware(8, 16))
    ladder = sim.ladder(scene)
    lean = next(step for step in ladder.steps if step.rung.offload is Offload.ALL).strategies[0]
    heavy = replace(lean, rung=replace(lean.rung, offload=Offload.NONE))
    trials = [Trial(lean, ladder.estimate(lean), sim.out_of_memory())]
    if has_fitted_alone:
        trials.append(Trial(heavy, ladder.estimate(heavy), sim.measured(peak_bytes=9 * sim.GB), is_rehearsal=True))
    assert is_ruled_out(heavy, SearchState.of(ladder, trials, scene)) != has_fitted_alone

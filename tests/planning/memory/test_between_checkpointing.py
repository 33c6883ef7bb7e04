"""What is kept between checkpointing and none, on the device and on the host, and what it costs; without a trace."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from autofit.domain.knobs.gradient_checkpointing import GRADIENT_CHECKPOINTING, GradientCheckpointing
from autofit.domain.strategy import Strategy
from autofit.planning.memory.closed_activations import closed_form_bytes
from autofit.planning.memory.peak_memory import estimate_memory, offloaded_bytes
from autofit.planning.speed.compute import MicroStepSeconds
from autofit.planning.speed.offloading import PINNED_EFFICIENCY, offload_s
from autofit.planning.speed.rates import rates_of
from autofit.planning.speed.work import by_formula
from tests.builders import LLAMA_7B, make_rung
from tests.planning import simulated as sim

TOKENS, ROWS = 1024, 2
SCENE = sim.setting(sim.hardware(1), LLAMA_7B, tokens=TOKENS, global_batch=8)
INPUT_BYTES = 2 * TOKENS * ROWS * LLAMA_7B.hidden_size
ATTENDED_BYTES = INPUT_BYTES + 4 * TOKENS * ROWS * LLAMA_7B.head_count
LAYER_BYTES = 17 * INPUT_BYTES
LAYERS = LLAMA_7B.layer_count


def strategy(checkpointing: GradientCheckpointing) -> Strategy:
    return Strategy(make_rung(1, gradient_checkpointing=checkpointing), ROWS, 4)


@pytest.mark.parametrize(
    ("checkpointing", "expected_bytes"),
    [
        (GradientCheckpointing.OFFLOAD, LAYER_BYTES),
        (GradientCheckpointing.ON, LAYERS * INPUT_BYTES + LAYER_BYTES),
        (GradientCheckpointing.SELECTIVE, LAYERS * (INPUT_BYTES + ATTENDED_BYTES) + LAYER_BYTES),
        # The last of the layers is kept, and gone when the one before is computed again.
        (GradientCheckpointing.EVERY_2, LAYERS // 2 * (INPUT_BYTES + LAYER_BYTES)),
        (GradientCheckpointing.OFF, LAYERS * LAYER_BYTES),
    ],
)
def test_what_layers_keep_on_the_device(checkpointing: GradientCheckpointing, expected_bytes: int) -> None:
    assert closed_form_bytes(strategy(checkpointing), SCENE) == expected_bytes


def test_the_knobs_order_is_that_of_the_estimates() -> None:
    peaks = [estimate_memory(strategy(one), SCENE).peak_bytes for one in GRADIENT_CHECKPOINTING.from_least_memory]
    assert all(less <= more for less, more in pairwise(peaks))


def test_inputs_that_are_offloaded_take_the_host_and_the_link() -> None:
    moved = strategy(GradientCheckpointing.OFFLOAD)
    assert offloaded_bytes(moved, SCENE) == LAYERS * INPUT_BYTES
    assert offloaded_bytes(strategy(GradientCheckpointing.ON), SCENE) == 0
    rates = rates_of(SCENE.hardware)
    both_ways = 2 * moved.gradient_accumulation * LAYERS * INPUT_BYTES
    expected_s = both_ways / (PINNED_EFFICIENCY * rates.host_link_bytes_per_s)
    assert offload_s(moved, SCENE, rates, MicroStepSeconds(1.0, 1.0)) == pytest.approx(expected_s)
    host = estimate_memory(moved, replace(SCENE, worst_tokens=TOKENS + 8)).host
    assert host.pinned_bytes == LAYERS * 2 * INPUT_BYTES, "blocks are rounded up, and kept for the next layer"


def test_half_of_the_layers_are_computed_again_and_attention_is_not() -> None:
    plain, every, half, selective = (
        sum(work.matmul_flop for work in by_formula(strategy(one), SCENE, TOKENS).backward)
        for one in (
            GradientCheckpointing.OFF,
            GradientCheckpointing.ON,
            GradientCheckpointing.EVERY_2,
            GradientCheckpointing.SELECTIVE,
        )
    )
    assert half - plain == pytest.approx((every - plain) / 2)
    (again, _) = by_formula(strategy(GradientCheckpointing.SELECTIVE), SCENE, TOKENS).backward
    forward = by_formula(strategy(GradientCheckpointing.ON), SCENE, TOKENS).forward[0]
    assert again.attention_flop == 0
    assert every - selective == pytest.approx(forward.attention_flop)


def test_only_what_is_certain_orders_the_work() -> None:
    order = [one.value for one in GRADIENT_CHECKPOINTING.values if one.value is not GradientCheckpointing.SELECTIVE]
    for less, more in pairwise(order):
        assert GRADIENT_CHECKPOINTING.does_no_more(less, more)
        assert not GRADIENT_CHECKPOINTING.does_no_more(more, less)
    selective = GradientCheckpointing.SELECTIVE
    assert GRADIENT_CHECKPOINTING.does_no_more(GradientCheckpointing.OFF, selective)
    assert not GRADIENT_CHECKPOINTING.does_no_more(GradientCheckpointing.EVERY_2, selective)
    assert not GRADIENT_CHECKPOINTING.does_no_more(selective, GradientCheckpointing.ON)


def test_the_knob_is_no_truth_value() -> None:
    with pytest.raises(TypeError):
        bool(GradientCheckpointing.OFF)

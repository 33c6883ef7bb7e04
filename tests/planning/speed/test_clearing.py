"""What a CPU rank takes longer whose heap may not keep what is freed, by how much it may hold."""

from dataclasses import replace

import pytest

from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Measured
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Trial
from autofit.planning.memory.cpu_heap import quick_up_to_bytes
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.search.search_state import SearchState
from autofit.planning.setting import Setting
from autofit.planning.space import axes
from autofit.planning.space.ladder_builder import build_ladder
from autofit.planning.speed.clearing import CLEARED_SHARE
from autofit.planning.speed.step_time import estimate_speed
from tests.builders import make_hardware, make_request, make_rung, make_shape

SHAPE = make_shape("small", 8, 256, 14_000_000)
STRATEGY = Strategy(make_rung(1), 2, 1)


def scene(memory_gb: float, kind: DeviceKind = DeviceKind.CPU) -> Setting:
    hardware = make_hardware(2, kind, memory_gb=memory_gb)
    return Setting(make_request(tokens=256, global_batch=4), hardware, SHAPE, 256)


def peaks(setting: Setting) -> tuple[float, float, float]:
    memory = estimate_memory(STRATEGY, setting)
    return memory.low_bytes, memory.high_bytes, memory.runtime_bytes


def room_gb(peak_bytes: float, base_bytes: float) -> float:
    """The room with which a heap is quick up to this peak."""
    one, other = quick_up_to_bytes(base_bytes, 0), quick_up_to_bytes(base_bytes, 1e9)
    return (peak_bytes - one) / (other - one)


def test_with_room_for_all_that_a_heap_may_keep_nothing_is_cleared():
    _, high_bytes, base_bytes = peaks(scene(10))
    assert estimate_speed(STRATEGY, scene(room_gb(high_bytes, base_bytes) + 0.001)).clearing_s == 0


def test_without_it_a_share_of_what_is_computed_is_added_to_the_step():
    low_bytes, _, base_bytes = peaks(scene(10))
    roomy, narrow = (estimate_speed(STRATEGY, scene(gb)) for gb in (10, room_gb(low_bytes, base_bytes) - 0.001))
    assert narrow.clearing_s == pytest.approx(CLEARED_SHARE * narrow.compute_s)
    assert narrow.step_s == pytest.approx(roomy.step_s + narrow.clearing_s)


def test_in_between_it_is_as_much_as_the_peaks_that_have_no_room():
    low_bytes, high_bytes, base_bytes = peaks(scene(10))
    quarter_bytes = low_bytes + 0.25 * (high_bytes - low_bytes)
    estimate = estimate_speed(STRATEGY, scene(room_gb(quarter_bytes, base_bytes)))
    assert estimate.clearing_s == pytest.approx(0.75 * CLEARED_SHARE * estimate.compute_s, rel=0.01)


def test_a_gpu_keeps_what_is_freed():
    assert estimate_speed(STRATEGY, scene(0.5, DeviceKind.CUDA)).clearing_s == 0


def test_a_probe_that_held_less_than_predicted_tells_the_search_that_others_are_quick_too():
    low_bytes, high_bytes, base_bytes = peaks(scene(10))
    setting = scene(room_gb((low_bytes + high_bytes) / 2, base_bytes))
    ladder = build_ladder(setting, axes.settle(setting))
    single = replace(STRATEGY, micro_batch=1, gradient_accumulation=2)
    estimate = ladder.estimate(single)
    held_bytes = round(estimate.memory.peak_bytes - (high_bytes - low_bytes))
    measured = Measured(held_bytes, held_bytes, 1000.0, 1.0, 0.5, 0.0, base_bytes=round(base_bytes))

    before = SearchState.of(ladder, (), setting).log_gain(STRATEGY, single).mean
    after = SearchState.of(ladder, (Trial(single, estimate, measured),), setting).log_gain(STRATEGY, single).mean

    assert after > before + 0.03

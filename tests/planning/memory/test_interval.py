"""How wide the interval of a peak is: by what is known of the device and of the kind of training."""

from __future__ import annotations

from dataclasses import replace

from autofit.domain.hardware import DeviceKind, Hardware
from autofit.planning.memory.interval import beside_range, worst_fragmentation
from tests.builders import make_rung
from tests.planning import simulated as sim
from tests.planning.memory.test_peak_memory import one_row

SCENE = sim.setting(sim.hardware(8))
TWO_NODES = replace(SCENE, hardware=Hardware(SCENE.hardware.nodes * 2))
FITTED = replace(SCENE, known_constants=replace(SCENE.constants, fitted_from=3))
PLAIN, SHARDED = one_row(make_rung(2)), one_row(make_rung(3))


def test_sharded_parameters_may_break_the_heap_up_more_until_trials_tell() -> None:
    assert worst_fragmentation(PLAIN, SCENE) < worst_fragmentation(SHARDED, SCENE)
    assert worst_fragmentation(PLAIN, FITTED) == worst_fragmentation(SHARDED, FITTED) < 1.08


def test_several_nodes_may_take_more_beside_the_tensors_until_trials_tell() -> None:
    assert beside_range(SCENE, is_alone=False)[1] < beside_range(TWO_NODES, is_alone=False)[1]
    assert beside_range(SCENE, is_alone=True) == beside_range(TWO_NODES, is_alone=True)
    assert beside_range(FITTED, is_alone=False)[1] < beside_range(SCENE, is_alone=False)[1]


def test_a_cpu_rank_has_no_allocator_that_reserves() -> None:
    cpu = sim.setting(sim.hardware(2, kind=DeviceKind.CPU, capability=None))
    assert worst_fragmentation(SHARDED, cpu) == worst_fragmentation(PLAIN, cpu) == 1.0

"""What is expected to fit, found in little time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.planning.plan.fit import fitting, leaves_room
from autofit.planning.space.axes import rungs, settle
from autofit.planning.space.ladder_builder import make_step
from tests.planning import simulated as sim


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("underestimate", [1.0, 1.3])
def test_what_fits_is_found_without_a_look_at_all_of_what_does_not(seed: int, underestimate: float) -> None:
    """On machines where some of the rungs fit, with the whole optimizer on the host, a part of it, or none."""
    scene = sim.random_scene(seed, ranks=(1, 2, 8)[seed % 3])
    tried = rungs(scene, settle(scene))
    steps = [make_step(rung, scene) for rung in tried]
    everything = [pair for step in steps for pair in zip(step.strategies, step.estimates, strict=True)]
    expected = [pair for pair in everything if leaves_room(pair[1].memory, scene, underestimate)]
    assert [*fitting(tried, replace(scene), underestimate)] == expected

"""The posterior against closed forms and against sampling."""

from __future__ import annotations

import random
from statistics import mean, stdev

import pytest

from autofit.planning.search.posterior import Effect, Posterior

SHARED, ONE, OTHER = Effect("shared", 3.0), Effect("one", 4.0), Effect("other", 4.0)


def test_nothing_seen_is_the_prior() -> None:
    seen = Posterior().predict((SHARED, ONE))
    assert (seen.mean, seen.std) == (0.0, 5.0)


def test_an_exact_measurement_is_believed_and_shared_in_proportion() -> None:
    posterior = Posterior().observe((SHARED, ONE), 10.0, noise_std=0.0)
    assert posterior.predict((SHARED, ONE)).mean == pytest.approx(10.0)
    assert posterior.predict((SHARED, ONE)).std == pytest.approx(0.0, abs=1e-6)
    sibling = posterior.predict((SHARED, OTHER))
    assert sibling.mean == pytest.approx(10.0 * 9 / 25)  # the shared effect's part of the variance
    assert sibling.std == pytest.approx((9 - 9 * 9 / 25 + 16) ** 0.5)


def test_two_measurements_make_a_line() -> None:
    """y = base + slope x, as the memory of a micro-batch."""

    def at(x: float) -> tuple[Effect, ...]:
        return Effect("base", 100.0), Effect("slope", 100.0, x)

    posterior = Posterior().observe(at(1), 5.0, 1e-6).observe(at(2), 7.0, 1e-6)
    assert posterior.predict(at(8)).mean == pytest.approx(19.0, rel=1e-4)
    assert posterior.predict(at(8)).std < 0.01


def test_the_order_of_exact_measurements_does_not_matter() -> None:
    one, other = ((SHARED, ONE), 2.0, 0.5), ((SHARED, OTHER), -1.0, 0.5)
    forward, backward = Posterior().observe(*one).observe(*other), Posterior().observe(*other).observe(*one)
    for effects in ((SHARED,), (ONE,), (SHARED, OTHER)):
        assert forward.predict(effects).mean == pytest.approx(backward.predict(effects).mean)
        assert forward.predict(effects).std == pytest.approx(backward.predict(effects).std)


@pytest.mark.parametrize("bound", [-20.0, 0.0, 5.0, 12.0])
def test_above_a_bound_is_the_truncated_normal(bound: float) -> None:
    draw = random.Random(0)
    pairs = [(draw.gauss(0, 3), draw.gauss(0, 4)) for _ in range(400_000)]
    kept = [(shared, own) for shared, own in pairs if shared + own > bound]
    believed = Posterior().observe_above((SHARED, ONE), bound)
    total, shared = believed.predict((SHARED, ONE)), believed.predict((SHARED,))
    assert total.mean == pytest.approx(mean(a + b for a, b in kept), abs=0.05)
    assert total.std == pytest.approx(stdev(a + b for a, b in kept), abs=0.1)
    assert shared.mean == pytest.approx(mean(a for a, _ in kept), abs=0.05)


def test_a_bound_beyond_all_belief_is_believed() -> None:
    believed = Posterior().observe_above((SHARED, ONE), 1000.0).predict((SHARED, ONE))
    assert believed.mean >= 1000.0
    assert believed.std >= 0.0


def test_the_chance_to_lie_below() -> None:
    assert Posterior().predict((ONE,)).chance_below(0.0) == pytest.approx(0.5)
    assert Posterior().predict((ONE,)).chance_below(4.0) == pytest.approx(0.8413, abs=1e-4)

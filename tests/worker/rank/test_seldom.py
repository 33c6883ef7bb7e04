"""What need not be done at each step."""

from __future__ import annotations

from autofit.worker.rank.seldom import EVERY_S, Seldom


def test_it_acts_at_once_and_then_once_in_a_while() -> None:
    now_s, done_at_s = 0.0, []
    act = Seldom(lambda: done_at_s.append(now_s), lambda: now_s)
    for tenth in range(25):
        now_s = tenth * EVERY_S / 10
        act()
    assert done_at_s == [0.0, EVERY_S, 2 * EVERY_S]

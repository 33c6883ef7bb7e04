"""Signals that come while children are put away arrive afterwards, once, and are not lost."""

from __future__ import annotations

import os
import signal

import pytest

from autofit.probing.shield import shielded


def test_an_interrupt_waits_for_the_end_of_the_block() -> None:
    done: list[str] = []

    def put_away() -> None:
        with shielded():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("to the end")
        done.append("past it")

    with pytest.raises(KeyboardInterrupt):
        put_away()
    assert done == ["to the end"]


def test_an_interrupt_arrives_even_when_the_block_fails() -> None:
    def fail() -> None:
        with shielded():
            os.kill(os.getpid(), signal.SIGINT)
            raise ValueError("of the block")

    with pytest.raises(KeyboardInterrupt) as caught:
        fail()
    assert isinstance(caught.value.__context__, ValueError)


def test_a_shield_within_a_shield_does_not_end_the_outer_one() -> None:
    done: list[str] = []

    def put_away() -> None:
        with shielded():
            with shielded():
                os.kill(os.getpid(), signal.SIGINT)
            done.append("still shielded")

    with pytest.raises(KeyboardInterrupt):
        put_away()
    assert done == ["still shielded"]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_other_endings_wait_too(number: signal.Signals) -> None:
    arrived: list[int] = []
    before = signal.signal(number, lambda received, frame: arrived.append(received))
    try:
        with shielded():
            os.kill(os.getpid(), number)
            assert arrived == []
        assert arrived == [number]
    finally:
        signal.signal(number, before)

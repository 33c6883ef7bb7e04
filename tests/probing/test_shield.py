"""Signals that come while children are put away arrive afterwards, once, and are not lost."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from autofit.probing.shield import shielded


@pytest.fixture
def send() -> Iterator[Callable[[signal.Signals], None]]:
    """Sends this process a signal, and goes on once Python knows of it.

    There is a second thread, as the one that draws the live table: the kernel gives it what the main thread blocks.
    """
    ending = threading.Event()
    thread = threading.Thread(target=ending.wait)
    thread.start()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing)

    def deliver(number: signal.Signals) -> None:
        os.kill(os.getpid(), number)
        assert select.select([reading], [], [], 5)[0], "the signal did not arrive"

    yield deliver
    signal.set_wakeup_fd(before)
    ending.set()
    thread.join()
    os.close(reading)
    os.close(writing)


Send = Callable[[signal.Signals], None]


def test_an_interrupt_waits_for_the_end_of_the_block(send: Send) -> None:
    done: list[str] = []

    def put_away() -> None:
        with shielded():
            send(signal.SIGINT)
            done.append("to the end")
        done.append("past it")

    with pytest.raises(KeyboardInterrupt):
        put_away()
    assert done == ["to the end"]


def test_an_interrupt_arrives_even_when_the_block_fails(send: Send) -> None:
    def fail() -> None:
        with shielded():
            send(signal.SIGINT)
            raise ValueError("of the block")

    with pytest.raises(KeyboardInterrupt) as caught:
        fail()
    assert isinstance(caught.value.__context__, ValueError)


def test_a_shield_within_a_shield_does_not_end_the_outer_one(send: Send) -> None:
    done: list[str] = []

    def put_away() -> None:
        with shielded():
            with shielded():
                send(signal.SIGINT)
            done.append("still shielded")

    with pytest.raises(KeyboardInterrupt):
        put_away()
    assert done == ["still shielded"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_other_endings_wait_too(number: signal.Signals, send: Send) -> None:
    arrived: list[int] = []
    before = signal.signal(number, lambda received, frame: arrived.append(received))
    try:
        with shielded():
            send(number)
            assert arrived == []
        assert arrived == [number]
    finally:
        signal.signal(number, before)

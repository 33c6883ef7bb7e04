"""Signals come up where one waits, once, and never while children are put away."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from autofit.process.signals import shielded


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
        assert select.select([reading], [], [], 60)[0], "the signal did not arrive"

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


# What heeds signals, in a process of its own; it tells how its `body` ended.
PROGRAM = """
import os, signal, subprocess, sys, threading, time
from autofit.process import signals
from autofit.process.child import Child, run_to_end
from autofit.process.signals import Terminated, check, note_signals, shielded, wait

def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)

def later(seconds, *numbers):
    timer = threading.Timer(seconds, send, numbers)
    timer.start()
    return timer

note_signals()
try:
    {body}
    print("to the end", flush=True)
except Terminated as ended:
    print("terminated", ended.number, flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def told(body: str, **options: object) -> tuple[str, int]:
    """What the program said, and its exit code."""
    indented = body.strip().replace("\n", "\n    ")
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=indented)], capture_output=True, text=True, timeout=120, **options
    )  # type: ignore[call-overload]
    assert "Traceback" not in ended.stderr
    return ended.stdout, ended.returncode


@pytest.mark.parametrize(
    ("number", "said"), [("SIGINT", "interrupted"), ("SIGTERM", "terminated 15"), ("SIGHUP", "terminated 1")]
)
def test_a_signal_is_raised_where_one_waits(number: str, said: str) -> None:
    assert told(f"later(0.2, signal.{number})\nwait((), 100)") == (f"{said}\n", 0)


def test_nothing_is_raised_in_the_code_of_others() -> None:
    """It comes up at the next wait, and as one: `timeout` sends two."""
    body = """
send(signal.SIGTERM, signal.SIGTERM)
for _ in range(1000):
    subprocess.Popen(["true"]) if _ % 200 == 0 else sorted(range(1000))
print("others are done")
wait((), 100)
"""
    assert told(body) == ("others are done\nterminated 15\n", 0)


def test_a_signal_that_another_thread_takes_wakes_the_one_who_waits() -> None:
    body = """
def own():
    time.sleep(0.2)
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
threading.Thread(target=own).start()
wait((), 100)
"""
    assert told(body) == ("terminated 15\n", 0)


def test_other_signals_do_not_end_a_wait() -> None:
    body = """
signal.signal(signal.SIGUSR1, lambda *_: None)
later(0.05, signal.SIGUSR1)
began_s = time.monotonic()
assert wait((), 0.3) == [] and time.monotonic() - began_s >= 0.3
"""
    assert told(body) == ("to the end\n", 0)


def test_a_child_is_put_away_whole_before_a_second_signal_is_heard() -> None:
    body = """
send(signal.SIGTERM)
try:
    run_to_end(["sleep", "600"], sys.stdout.buffer)
finally:
    print("ended")
"""
    assert told(body) == ("ended\nterminated 15\n", 0)
    body = """
child = Child(["sleep", "600"], sys.stdout.buffer)
sending = later(0.1, signal.SIGTERM, signal.SIGTERM)
with shielded():
    assert not child.has_ended(0.4)
    sending.join()
    print(child.kill())
"""
    assert told(body) == ("-9\nterminated 15\n", 0)


def test_what_is_ignored_from_the_start_stays_ignored() -> None:
    body = "send(signal.SIGHUP)\nassert wait((), 0.1) == []"
    assert told(body, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) == ("to the end\n", 0)


def test_code_that_never_comes_back_does_not_keep_a_signal_waiting() -> None:
    body = "signals._STUCK_S = 0.2\nlater(0.1, signal.SIGTERM)\nos.read(os.pipe()[0], 1)"
    assert told(body) == ("", 143)


def test_who_holds_signals_takes_them_and_the_rest_is_raised_at_the_next_wait() -> None:
    body = """
with signals.held():
    send(signal.SIGTERM)
    assert wait((), 0.1) == [] and signals.take() == signal.SIGTERM and signals.take() is None
    send(signal.SIGHUP)
    check()
    print("held")
    signals.put_back(signals.take())
wait((), 100)
"""
    assert told(body) == ("held\nterminated 1\n", 0)


def test_a_scheduler_s_signals_are_noted_where_that_is_asked_for() -> None:
    body = "note_signals(signal.SIGUSR1)\nsend(signal.SIGUSR1)\nwait((), 100)"
    assert told(body) == ("terminated 10\n", 0)

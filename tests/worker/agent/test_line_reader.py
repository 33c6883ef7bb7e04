"""Commands that come in over a real pipe, in whatever pieces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pipe

import pytest

from autofit.worker.agent.line_reader import CommandsClosed, LineReader, wait_or_interrupt


@dataclass
class Commands:
    reader: LineReader
    writing: int | None

    def write(self, text: bytes) -> None:
        assert self.writing is not None
        os.write(self.writing, text)

    def leave(self) -> None:
        if self.writing is not None:
            os.close(self.writing)
            self.writing = None


@pytest.fixture
def commands() -> Iterator[Commands]:
    reading, writing = os.pipe()
    commands = Commands(LineReader(reading), writing)
    yield commands
    commands.leave()
    os.close(reading)


def test_lines_come_whole_however_they_were_written(commands: Commands) -> None:
    commands.write(b"one\ntw")
    assert commands.reader.next_line() == b"one"
    commands.write(b"o\nthree\n\n")
    assert [commands.reader.next_line() for _ in range(3)] == [b"two", b"three", b""]


def test_a_line_longer_than_what_is_read_at_once(commands: Commands) -> None:
    commands.write(b"x" * 60_000)
    commands.reader.read_more()
    commands.write(b"y" * 60_000 + b"\n")
    assert commands.reader.next_line() == b"x" * 60_000 + b"y" * 60_000


def test_what_was_written_before_the_end_is_read_and_half_a_line_is_no_command(commands: Commands) -> None:
    commands.write(b"last\nhalf")
    commands.leave()
    assert commands.reader.next_line() == b"last"
    assert commands.reader.next_line() is None
    assert commands.reader.next_line() is None
    assert commands.reader.is_closed


def test_what_is_ready_is_told(commands: Commands) -> None:
    (first, into_first), (second, into_second) = Pipe(duplex=False), Pipe(duplex=False)
    with first, into_first, second, into_second:
        into_second.send_bytes(b"here")
        assert wait_or_interrupt([first, second], commands.reader) == [second]


def test_nothing_is_ready_in_time(commands: Commands) -> None:
    silent, other = Pipe(duplex=False)
    with silent, other:
        assert wait_or_interrupt([silent], commands.reader, 0.01) == []


def test_a_command_that_comes_meanwhile_is_kept_for_later(commands: Commands) -> None:
    silent, other = Pipe(duplex=False)
    with silent, other:
        commands.write(b"next\n")
        assert wait_or_interrupt([silent], commands.reader, 0.01) == []
        other.send_bytes(b"here")
        commands.write(b"after next\n")
        assert wait_or_interrupt([silent], commands.reader) == [silent]
    assert [commands.reader.next_line() for _ in range(2)] == [b"next", b"after next"]


def test_waiting_ends_when_the_other_side_has_gone_even_if_something_is_ready(commands: Commands) -> None:
    ready, other = Pipe(duplex=False)
    with ready, other:
        other.send_bytes(b"here")
        commands.leave()
        with pytest.raises(CommandsClosed):
            wait_or_interrupt([ready], commands.reader)

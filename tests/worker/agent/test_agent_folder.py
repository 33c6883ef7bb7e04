"""What an agent that was killed has left behind goes with the next one."""

from __future__ import annotations

import multiprocessing.process
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from autofit.process.temporary_folder import claimed_folder
from autofit.worker.agent.agent_folder import PREFIX, make_temporary_folder


@pytest.fixture
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Whose path is short."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def _own_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing.process.current_process(), "_config", {})


def test_a_socket_finds_room_in_it_however_long_the_path_of_temporary_files_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    folder = Path(make_temporary_folder())
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "listener-12345678"))
    finally:
        shutil.rmtree(folder)


def test_a_fork_server_that_lives_is_not_disturbed_and_the_folder_of_a_killed_agent_goes(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that says nothing is the end of multiprocessing's fork server."""
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    (dead, lock), (living, _) = (claimed_folder(PREFIX, place) for _ in range(2))
    starting = place / f"{PREFIX}starting"
    starting.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(living / "listener-1"))
        listener.listen()
        listener.setblocking(False)
        os.close(lock)  # as the kernel does on a kill
        own = Path(make_temporary_folder())
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert set(place.iterdir()) == {own, living, starting}
    assert not dead.exists()

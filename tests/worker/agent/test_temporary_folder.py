"""What an agent that was killed has left behind goes with the next one."""

from __future__ import annotations

import multiprocessing.process
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from autofit.worker.agent.temporary_folder import PREFIX, make_temporary_folder


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


def test_the_folder_of_a_killed_agent_goes_and_that_of_a_living_one_stays(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    for name in ("dead", "living", "starting"):
        (place / f"{PREFIX}{name}").mkdir()
    with socket.socket(socket.AF_UNIX) as dead, socket.socket(socket.AF_UNIX) as living:
        for name, listener in (("dead", dead), ("living", living)):
            listener.bind(str(place / f"{PREFIX}{name}" / "listener-1"))
        living.listen()
        dead.close()
        own = Path(make_temporary_folder())
    assert {path.name for path in place.iterdir()} == {own.name, f"{PREFIX}living", f"{PREFIX}starting"}

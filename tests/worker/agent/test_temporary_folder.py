"""What an agent that was killed has left behind goes with the next one."""

from __future__ import annotations

import multiprocessing.process
import socket
import tempfile
from pathlib import Path

import pytest

from autofit.worker.agent.temporary_folder import PREFIX, make_temporary_folder


def test_the_folder_of_a_killed_agent_goes_and_that_of_a_living_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(multiprocessing.process.current_process(), "_config", {})
    for name in ("dead", "living", "starting"):
        (tmp_path / f"{PREFIX}{name}").mkdir()
    with socket.socket(socket.AF_UNIX) as dead, socket.socket(socket.AF_UNIX) as living:
        for name, listener in (("dead", dead), ("living", living)):
            monkeypatch.chdir(tmp_path / f"{PREFIX}{name}")  # a socket's path is short
            listener.bind("listener-1")
        living.listen()
        dead.close()
        own = Path(make_temporary_folder())
    assert {path.name for path in tmp_path.iterdir()} == {own.name, f"{PREFIX}living", f"{PREFIX}starting"}

"""Folders that commands have for a while."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from autofit.process.temporary_folder import temporary_folder

HOLDER = """
import sys, time
from autofit.process.temporary_folder import temporary_folder
with temporary_folder("autofit-x-") as folder:
    (folder / "something").write_text("x")
    print(folder, flush=True)
    time.sleep(600)
"""


def test_a_killed_commands_folder_goes_with_the_next_and_a_living_ones_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    command = [sys.executable, "-c", HOLDER]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    holders = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    try:
        folders = [Path(holder.stdout.readline().strip()) for holder in holders if holder.stdout is not None]
        holders[0].send_signal(signal.SIGKILL)
        holders[0].wait(60)
        assert folders[0].is_dir()
        with temporary_folder("autofit-x-") as own:
            assert not folders[0].exists()
            assert folders[1].is_dir()
            assert own.is_dir()
        assert not own.exists()
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


def test_where_nothing_can_be_locked_a_folder_is_nobodys_to_take_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(fcntl, "flock", refuse)
    with temporary_folder("autofit-x-") as first, temporary_folder("autofit-x-") as second:
        assert first.is_dir()
        assert second.is_dir()
        assert list(first.iterdir()) == []
    assert list(tmp_path.iterdir()) == []

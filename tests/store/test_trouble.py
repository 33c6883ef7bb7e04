"""A file that is of no use never stops anything: one sentence, and everything goes on without it."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from autofit.store import Store, location
from autofit.store.schema import SCHEMA
from tests.store.samples import KEY, STEP, TRIALS, trace


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "autofit.sqlite"


def check_goes_on_without(path: Path, reason: str) -> None:
    with Store(path) as store:
        assert store.recall(KEY) == ()
        store.remember(TRIALS[0], KEY)
        store.put_traces("model", [trace(1)])
        assert store.get_traces("model", [STEP]) == ()
        assert store.entries() == ()
    assert store.trouble is not None
    assert reason in store.trouble
    assert str(path) in store.trouble
    assert "\n" not in store.trouble


def test_a_file_of_something_else(path: Path) -> None:
    path.write_text("not a database\n" * 100)
    check_goes_on_without(path, "not a database")
    assert path.read_text().startswith("not a database")


def test_a_file_that_was_cut(path: Path) -> None:
    with Store(path) as store:
        store.put_traces("model", [trace(rows) for rows in range(1, 40)])
    os.truncate(path, path.stat().st_size // 2)
    with Store(path) as store:
        store.get_traces("model", [trace(rows).of for rows in range(1, 40)])
        store.prune()
    assert "malformed" in (store.trouble or "")


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_goes_on_without(tmp_path / "file" / "autofit.sqlite", "File exists")


def test_a_full_disk(path: Path) -> None:
    with Store(path) as store:
        store.remember(TRIALS[0], KEY)
    with no_room(), Store(path) as store:
        assert store.recall(KEY) == TRIALS[:1]
        store.remember(TRIALS[1], KEY)
        assert store.trouble is not None
    with Store(path) as store:
        assert store.recall(KEY) == TRIALS[:1]


@contextmanager
def no_room() -> Iterator[None]:
    """Files cannot grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_may_only_be_read(path: Path) -> None:
    with Store(path) as store:
        store.remember(TRIALS[0], KEY)
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        with Store(path) as store:
            assert store.recall(KEY) == TRIALS[:1]
            store.remember(TRIALS[1], KEY)
            assert "readonly" in (store.trouble or "")
        check_goes_on_without(path.with_name("new.sqlite"), "unable to open")
    finally:
        path.parent.chmod(0o755)


@pytest.mark.parametrize("is_folder", [True, False], ids=["the folder", "the file"])
def test_what_everybody_may_write_is_not_believed(tmp_path: Path, is_folder: bool) -> None:
    path = tmp_path / "two words" / "autofit.sqlite"
    with Store(path) as store:
        store.remember(TRIALS[0], KEY)
    open_place = path.parent if is_folder else path
    open_place.chmod(open_place.stat().st_mode | 0o002)
    check_goes_on_without(path, f"everybody may write it, which `chmod o-w '{open_place}'` ends")
    open_place.chmod(open_place.stat().st_mode & ~0o002)
    with Store(path) as store:
        assert store.recall(KEY) == TRIALS[:1]


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022])
def test_what_it_makes_is_its_users_own(tmp_path: Path, umask: int) -> None:
    path, before = tmp_path / "cache" / "autofit.sqlite", os.umask(umask)
    try:
        for _ in range(2):
            with Store(path) as store:
                store.remember(TRIALS[0], KEY)
            assert store.trouble is None
    finally:
        os.umask(before)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o022 == 0


def test_what_another_user_has_made_is_not_believed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(path) as store:
        store.remember(TRIALS[0], KEY)
    monkeypatch.setattr(location.os, "geteuid", lambda: path.stat().st_uid + 1001)
    monkeypatch.setattr(location, "_ROOT", -1)  # under which these tests may run
    check_goes_on_without(path, "it is another user's")


def test_a_newer_schema_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE trial (a)")
        file.execute(f"PRAGMA user_version = {SCHEMA + 1}")
        file.commit()
    before = path.read_bytes()
    check_goes_on_without(path, f"a newer autofit wrote it, with schema {SCHEMA + 1}")
    assert path.read_bytes() == before


def test_an_older_schema_begins_anew(path: Path) -> None:
    with closing(sqlite3.connect(path)) as file:
        file.execute("CREATE TABLE trial (a)")
        file.commit()
    with Store(path) as store:
        store.remember(TRIALS[0], KEY)
        assert store.recall(KEY) == TRIALS[:1]
    assert store.trouble is None


_WRITER = """
import sys
from pathlib import Path
from tests.store.samples import trace
from autofit.store import Store

first = int(sys.argv[2])
sys.stdin.readline()
for rows in range(first, first + 50):
    with Store(Path(sys.argv[1])) as store:
        store.put_traces("model", [trace(rows, 1)])
    assert store.trouble is None, store.trouble
"""


def test_processes_that_begin_and_write_at_once_lose_nothing(path: Path) -> None:
    root = str(Path(__file__).parents[2])
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, str(path), str(first)], stdin=subprocess.PIPE, cwd=root)
        for first in (1, 51)
    ]
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
    assert [writer.communicate(timeout=60) and writer.returncode for writer in writers] == [0, 0]
    with Store(path) as store:
        assert store.counts().trace_count == 100

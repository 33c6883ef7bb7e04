"""torch's builds as our processes see them: another's is waited for, one that was killed is built anew at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Timer

import pytest
from torch.utils import cpp_extension

from autofit.process.build_locks import build_wait
from autofit.process.build_locks.build_lock import build_locks, build_root
from autofit.process.host_processes import kill_sessions
from autofit.worker.rank.extension_builds import wait_for_builders
from tests.build_process import building, left_lock
from tests.waiting import wait_until

# A real build by ninja; the compiler is a shell script that waits in the middle of it for as long as it is told to.
_BUILDS = """
import sys
from torch.utils import cpp_extension
from autofit.worker.rank.extension_builds import wait_for_builders
wait_for_builders()
cpp_extension.load("tiny", [sys.argv[1]], is_python_module=False)
print("built")
"""
_COMPILER = """#!/bin/sh
case " $* " in *" -c "*) [ -e hold ] && touch compiling && sleep 600;; esac
exec c++ "$@"
"""


@pytest.fixture
def heeding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpp_extension, "FileBaton", cpp_extension.FileBaton)  # put back afterwards
    monkeypatch.setattr(build_wait, "SETTLE_S", 0.05)
    wait_for_builders()


@pytest.mark.parametrize("is_named", [False, True])
def test_builds_are_looked_for_where_torch_makes_them(
    is_named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TORCH_EXTENSIONS_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if is_named:
        monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "named"))
    else:
        assert str(build_root()) == cpp_extension.get_default_build_root()
    lock = left_lock(Path(cpp_extension._get_build_directory("op", verbose=False)))
    assert [found.path for found in build_locks("op")] == [lock]


def test_the_default_place_is_below_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCH_EXTENSIONS_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert str(build_root()) == cpp_extension.get_default_build_root()


@pytest.mark.usefixtures("heeding")
def test_a_baton_that_was_left_is_taken(tmp_path: Path) -> None:
    lock = left_lock(tmp_path / "op")
    baton = cpp_extension.FileBaton(str(lock))
    assert baton.try_acquire()
    baton.release()
    assert not lock.exists()


@pytest.mark.usefixtures("heeding")
def test_what_another_process_has_built_is_not_built_again(tmp_path: Path) -> None:
    with building(tmp_path / "op") as builder:
        baton = cpp_extension.FileBaton(str(builder.lock))
        release = Timer(0.2, builder.release)
        release.start()
        assert not baton.try_acquire()
        release.join()
        baton.wait()  # it is over
        assert not builder.lock.exists()


@pytest.mark.usefixtures("heeding")
def test_who_listens_already_is_not_replaced_by_nobody() -> None:
    before = cpp_extension.FileBaton
    wait_for_builders()
    assert cpp_extension.FileBaton is before
    wait_for_builders(lambda wait: None)
    assert cpp_extension.FileBaton is not before


@pytest.mark.slow
def test_a_build_that_was_killed_is_built_by_the_next_at_once(tmp_path: Path) -> None:
    (tmp_path / "tiny.cpp").write_text("int tiny() { return 1; }\n")
    compiler = tmp_path / "compiler"
    compiler.write_text(_COMPILER)
    compiler.chmod(0o755)
    environment = {**os.environ, "TORCH_EXTENSIONS_DIR": str(tmp_path / "builds"), "CXX": str(compiler)}
    command = [sys.executable, "-c", _BUILDS, str(tmp_path / "tiny.cpp")]
    folder = tmp_path / "builds/tiny"  # where ninja and its compiler work
    folder.mkdir(parents=True)
    (folder / "hold").touch()
    killed = subprocess.Popen(command, env=environment, start_new_session=True)
    wait_until((folder / "compiling").exists)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert (folder / "lock").exists()
    (folder / "hold").unlink()
    built = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    kill_sessions((killed.pid,))  # its compiler has a process group of its own
    assert (built.returncode, built.stdout) == (0, "built\n"), built.stderr
    assert not (folder / "lock").exists()

"""What DeepSpeed's launcher starts, forked: it runs, ends and is seen to end as what `python -m` starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace

import psutil
import pytest
from deepspeed.launcher.launch import terminate_process_tree

from autofit.worker.deepspeed import forked_module
from autofit.worker.deepspeed.forked_module import ForkedModule, fork_modules_of, sleep
from tests.waiting import DEADLINE_S, wait_until

NAME = "module_of_a_test"


@pytest.fixture(autouse=True)
def none_started() -> Iterator[None]:
    ForkedModule.started.clear()
    yield
    for one in ForkedModule.started:
        if one.poll() is None:
            os.kill(one.pid, signal.SIGKILL)
            one.wait()
    ForkedModule.started.clear()


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ForkedModule]:
    """Starts a module whose `main` is given."""

    def start(main: Callable[[], object], *words: str, env: dict[str, str] | None = None) -> ForkedModule:
        module = ModuleType(NAME)
        module.main = main  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, NAME, module)
        return ForkedModule([sys.executable, "-u", "-m", NAME, *words], env or {})

    return start


def fails() -> None:
    raise RuntimeError("as it happens")


def forever() -> None:
    time.sleep(600)


@pytest.mark.parametrize(
    ("main", "code"),
    [
        (lambda: None, 0),
        (lambda: sys.exit(), 0),
        (lambda: sys.exit(3), 3),
        (lambda: sys.exit("why"), 1),
        (fails, 1),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL),
    ],
)
def test_it_ends_as_python_does(start: Callable[..., ForkedModule], main: Callable[[], object], code: int) -> None:
    one = start(main)
    assert one.wait() == code
    assert (one.poll(), one.returncode) == (code, code)


def test_it_has_its_words_and_its_environment_alone(start: Callable[..., ForkedModule], tmp_path: Path) -> None:
    def main() -> None:
        (tmp_path / "seen").write_text(json.dumps([sys.argv, dict(os.environ)]))

    before = dict(os.environ)
    assert start(main, "--local_rank=1", "x", env={"RANK": "1"}).wait() == 0
    assert json.loads((tmp_path / "seen").read_text()) == [[NAME, "--local_rank=1", "x"], {"RANK": "1"}]
    assert dict(os.environ) == before


def test_one_that_runs_is_seen_to_run(start: Callable[..., ForkedModule]) -> None:
    one = start(forever)
    assert one.poll() is None
    assert not one.has_done_well()
    os.kill(one.pid, signal.SIGTERM)
    assert one.wait() == -signal.SIGTERM
    assert not one.has_done_well()


@pytest.mark.parametrize("main", [lambda: sys.exit(3), lambda: os.kill(os.getpid(), signal.SIGKILL)])
def test_its_end_is_told_once_and_while_it_is_still_to_be_seen(
    monkeypatch: pytest.MonkeyPatch, main: Callable[[], object]
) -> None:
    module = ModuleType(NAME)
    module.main = main  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, NAME, module)
    told: list[tuple[str, int, bool]] = []

    def hear(env: Mapping[str, str], exit_code: int) -> None:
        told.append((env["RANK"], exit_code, Path(f"/proc/{one.pid}/stat").exists()))

    env = {"RANK": "1"}
    one = ForkedModule([sys.executable, "-m", NAME], env, on_end=hear)
    env["RANK"] = "2"  # as launch.py does for the next
    code = one.wait()
    assert one.poll() == code
    assert told == [("1", code, True)]


def test_nobody_sleeps_once_all_have_done_well(start: Callable[..., ForkedModule]) -> None:
    both = [start(lambda: None), start(lambda: None)]
    began_s = time.monotonic()
    sleep(10 * DEADLINE_S)
    assert time.monotonic() - began_s < DEADLINE_S
    assert [one.poll() for one in both] == [0, 0]  # the look has taken nothing from the launcher
    sleep(10 * DEADLINE_S)  # as at the end of launch.py
    assert time.monotonic() - began_s < DEADLINE_S


@pytest.mark.parametrize("other", [forever, fails])
def test_a_launcher_sleeps_on_while_one_runs_or_has_failed(
    start: Callable[..., ForkedModule], other: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    start(lambda: None).wait()
    one = start(other)
    if other is fails:
        wait_until(lambda: os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))
    slept: list[float] = []
    now_s = [0.0]

    def pass_time(seconds: float) -> None:
        slept.append(seconds)
        now_s[0] += seconds

    monkeypatch.setattr(forked_module, "time", SimpleNamespace(monotonic=lambda: now_s[0], sleep=pass_time))
    sleep(1.0)
    assert sum(slept) == pytest.approx(1.0)


def test_a_module_of_the_launcher_forks_and_keeps_the_rest_of_what_it_has() -> None:
    module = ModuleType("launch")
    module.subprocess, module.time = subprocess, time  # type: ignore[attr-defined]
    fork_modules_of(module)
    assert module.subprocess.Popen.func is ForkedModule  # type: ignore[attr-defined]
    assert module.subprocess.DEVNULL == subprocess.DEVNULL  # type: ignore[attr-defined]
    assert module.time.sleep is sleep  # type: ignore[attr-defined]
    assert module.time.strftime is time.strftime  # type: ignore[attr-defined]
    assert subprocess.Popen is not ForkedModule  # type: ignore[comparison-overlap]


def test_who_has_ended_by_itself_is_told_before_the_launcher_ends_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """launch.py sees a rank with an error, ends all in their order, and looks at none of them again."""
    told: dict[str, int] = {}
    launch = ModuleType("launch_of_a_test")
    launch.subprocess, launch.time = subprocess, time  # type: ignore[attr-defined]
    launch.terminate_process_tree = terminate_process_tree  # type: ignore[attr-defined]
    fork_modules_of(launch, lambda env, exit_code: told.update({env["RANK"]: exit_code}))
    mains = {"0": fails, "1": lambda: os._exit(0), "2": forever}
    for rank, main in mains.items():
        module = ModuleType(NAME)
        module.main = main  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, NAME, module)
        launch.subprocess.Popen([sys.executable, "-m", NAME], {"RANK": rank})
    for one in ForkedModule.started[:2]:
        wait_until(lambda: os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))  # noqa: B023
    for one in ForkedModule.started:
        with suppress(OSError, psutil.Error):  # as launch.py does
            launch.terminate_process_tree(one.pid)
    assert {rank: told[rank] for rank in ("0", "1")} == {"0": 1, "1": 0}
    assert not any(Path(f"/proc/{one.pid}").exists() for one in ForkedModule.started)
    ForkedModule.started.clear()  # psutil has taken the last one's end

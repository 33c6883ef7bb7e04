"""A real agent and the extension that it needs before it is ready, with builds that others or itself are killed in."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.utils.cpp_extension import get_default_build_root

from autofit.domain.hardware import DeviceKind
from autofit.probing.agent import Agent
from autofit.worker.agent.fork_server import PRELOADED_BUILD
from tests.build_process import building

pytestmark = pytest.mark.slow

_COMPILER = """#!/bin/sh
case " $* " in *" -c "*) touch compiling; sleep 600;; esac
exec c++ "$@"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the agent builds, nobody else does, and what was built on this machine already need not be built again."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "builds"))
    folder = tmp_path / "builds" / PRELOADED_BUILD
    kind = (
        f"cu{torch.version.cuda.replace('.', '')}" if torch.version.cuda else "cpu"
    )  # of this torch, as it names them
    python = f"py{sys.version_info.major}{sys.version_info.minor}{sys.abiflags}"
    for built in Path(get_default_build_root()).glob(f"{python}_{kind}/{PRELOADED_BUILD}"):
        shutil.copytree(built, folder, ignore=shutil.ignore_patterns("lock"))
    return folder


def test_what_the_agent_waits_for_at_its_start_is_what_deepspeed_builds() -> None:
    from deepspeed.ops.op_builder.cpu import ShareMemCommBuilder

    assert ShareMemCommBuilder().name == PRELOADED_BUILD


def test_an_agent_says_for_whom_it_waits_and_goes_on_when_that_one_is_killed(folder: Path, tmp_path: Path) -> None:
    told: list[str] = []
    with building(folder) as builder:

        def tell(text: str) -> None:
            told.append(text)
            builder.kill()

        with Agent(kind=DeviceKind.CPU, log_path=tmp_path / "agent.log", tell=tell) as agent:
            agent.wait_ready()
        assert told[:1] == [
            f"waiting for process {builder.process.pid}, which is building torch's extension {PRELOADED_BUILD} "
            f"(its lock is {builder.lock})"
        ]
        # Where it then has to build for itself, it may say so as well.
        assert not any(f"process {builder.process.pid}," in text for text in told[1:])
    assert not builder.lock.exists()


def test_an_agent_that_is_ended_in_a_build_leaves_no_lock(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "compiler"
    compiler.write_text(_COMPILER)
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    shutil.rmtree(folder, ignore_errors=True)
    with Agent(kind=DeviceKind.CPU, log_path=tmp_path / "agent.log"):
        deadline_s = time.monotonic() + 120
        while not (folder / "compiling").exists():
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        assert (folder / "lock").exists()
    assert not (folder / "lock").exists()

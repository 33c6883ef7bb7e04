"""Probes across two hosts, and what is said when one of them cannot take part or is cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.multinode.rig import DEADLINE_S, Rig, until

pytestmark = [pytest.mark.multinode, pytest.mark.slow]
DRIVE = Path(__file__).parent / "drive.py"
MODEL = Path(__file__).parents[2] / "examples/tiny-llama"


def drive(rig: Rig, *words: str) -> list[str]:
    """The command line of a cluster over both hosts."""
    addresses = [host.address for host in rig.hosts]
    return [sys.executable, str(DRIVE), "--hostfile", str(rig.hostfile), "--hosts", *addresses, *words]


def said(rig: Rig, *words: str, timeout_s: float = 120.0) -> dict[str, list[Any]]:
    """What it told, by kind."""
    done = rig.run(drive(rig, *words), timeout_s=timeout_s)
    assert done.returncode == 0, done.stdout + done.stderr
    told: dict[str, list[Any]] = {}
    for what, value in map(json.loads, done.stdout.splitlines()):
        told.setdefault(what, []).append(value)
    return told


def listen(process: subprocess.Popen[str]) -> Iterator[tuple[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        what, value = json.loads(line)
        yield what, value


def await_word(process: subprocess.Popen[str], wanted: str, value: object = None) -> Any:
    told = []
    for what, found in listen(process):
        told.append((what, found))
        if what == wanted and value in (None, found):
            return found
    raise AssertionError(f"ended without {wanted}: {told}")


def test_deepspeed_itself_runs_on_both_hosts(rig: Rig, tmp_path: Path) -> None:
    script = tmp_path / "hello.py"
    script.write_text("import os\nprint('rank', os.environ['RANK'], 'at', os.environ['MASTER_ADDR'])\n")
    done = rig.run(["deepspeed", "--hostfile", str(rig.hostfile), str(script)], timeout_s=60.0)
    assert done.returncode == 0, done.stderr
    for rank, host in enumerate(rig.hosts):
        assert f"{host.address}: rank {rank} at {rig.hosts[0].address}" in done.stdout


@pytest.mark.matrix  # test_drop_in.py always searches over both hosts
def test_a_script_is_probed_on_both_hosts(rig: Rig, tmp_path: Path) -> None:
    """The second time with a model that one of them lacks."""
    model, (here, there) = rig.temporary / "model", rig.hosts
    assert rig.run(["cp", "-r", str(MODEL), str(model)], timeout_s=10.0).returncode == 0
    told = said(rig, "--models", str(MODEL), str(model), "--put", str(tmp_path / "deep/ds.json"))
    assert rig.run(["rm", "-r", str(model)], timeout_s=10.0).returncode == 0
    assert told["nodes"] == [[1, 1]]
    measured, crashed = told["outcome"]
    assert measured["type"] == "Measured"
    assert (told["facts"][0]["zero_stage"], told["facts"][0]["rank_count"]) == (3, 2)
    assert (crashed["type"], crashed["rank"]) == ("Crashed", 1)
    assert crashed["why"].startswith(there.address)
    assert str(model) in crashed["why"]
    assert there.address in Path(crashed["log"]).read_text()
    assert (tmp_path / "deep/ds.json").read_text() == "put\n"
    assert rig.files(here) == rig.files(there) == []


@pytest.mark.matrix  # in test_signals.py it always is
def test_a_host_that_is_cut_off_is_named_soon(rig: Rig) -> None:
    """Long before TCP would give it up."""
    process = rig.start(drive(rig, "--models", str(MODEL), "--steps", "100000"))
    await_word(process, "beat", "step")
    with rig.cut(1):
        failure = await_word(process, "failed")
        assert rig.hosts[1].address in failure
        assert "connection to it was lost" in failure
        assert process.wait(DEADLINE_S) == 0
        until(
            lambda: not any(host.processes() for host in rig.hosts), timeout_s=DEADLINE_S, what="both hosts to be free"
        )
    assert [rig.files(host) for host in rig.hosts] == [[], []]


def test_nothing_outlives_a_cli_that_is_killed(rig: Rig) -> None:
    process = rig.start(drive(rig))
    await_word(process, "nodes")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    until(lambda: not any(host.processes() for host in rig.hosts), timeout_s=DEADLINE_S, what="both hosts to be free")


def test_a_host_that_cannot_be_reached_is_named(rig: Rig) -> None:
    address = "10.77.0.9"  # nobody's
    rig.write_hostfile(rig.hosts[0].address, address)
    (failure,) = said(rig, "--hosts", rig.hosts[0].address, address)["failed"]
    assert f"host {address} cannot be reached" in failure
    assert "ssh: connect to host" in failure


def test_a_version_that_differs_is_named_with_its_host(rig: Rig) -> None:
    path = next(file for file in metadata.files("transformers") or () if file.name == "METADATA")
    version = metadata.version("transformers")
    text = path.read_text().replace(f"Version: {version}", "Version: 5.0.1", 1)
    with rig.other_file(1, Path(str(path.locate())), text):
        (failure,) = said(rig)["failed"]
    assert f"host {rig.hosts[1].address} has transformers 5.0.1" in failure
    assert f"host {rig.hosts[0].address} has transformers {version}" in failure


def test_a_full_disk_is_named_with_its_host(rig: Rig) -> None:
    with rig.full_disk(1, size_bytes=65536):
        (failure,) = said(rig)["failed"]
    assert rig.hosts[1].address in failure
    assert str(rig.temporary) in failure
    assert "TMPDIR" in failure

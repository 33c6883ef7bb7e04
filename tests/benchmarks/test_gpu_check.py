"""The GPU check: what runs where, what becomes of a check that breaks, and the checks as far as a CPU can."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from _check import Check, Finding, Where
from _gpu_checks import CHECKS
from gpu_check import Report, batches, run

from autofit.hardware.machine import detect
from autofit.hardware.nvml import VendorNvml
from tests.hardware.fake_nvml import no_driver

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_check.py"
ADVICE = "call a doctor"
BODIES = """
import os, time

def says(kind, say):
    print("a word for the log")
    say(True, "well", "no")
    say(False, "ill", "take a pill", dose=2)

def raises(kind, say):
    raise OSError("no such thing")

def hangs(kind, say):
    time.sleep(600)

def dies(kind, say):
    os.kill(os.getpid(), 9)
"""


def test_ranks_that_follow_each_other_share_a_fork_server() -> None:
    names = [[check.name for check in batch] for batch in batches(CHECKS, [""])]
    assert [name for batch in names for name in batch] == [check.name for check in CHECKS]
    assert [check.name for check in CHECKS if check.where is Where.RANK] in names
    assert [[check.name for check in batch] for batch in batches(CHECKS, ["cap", "visible"])] == [
        ["visible devices"],
        ["memory cap"],
    ]


def found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, limit_s: float = 60.0) -> list[Finding]:
    """Of the function `name` of BODIES, run for real in a process of its own."""
    (tmp_path / "bodies.py").write_text(BODIES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    machine = detect(
        ranks=1, memory_limit_bytes=None, visible_devices="", disk_path=tmp_path, nvml=VendorNvml(no_driver())
    )
    report = Report({})
    run([Check(name, "bodies", limit_s, ADVICE, Where.PROCESS)], machine, 60.0, report, tmp_path / "log")
    report.write(tmp_path / "report.json")
    assert len(json.loads((tmp_path / "report.json").read_text())["findings"]) == len(report.findings)
    return report.findings


def test_what_a_check_says_is_told_with_what_to_do_and_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    well, ill = found("says", tmp_path, monkeypatch)
    assert well == Finding("says", True, "well")
    assert ill == Finding("says", False, "ill", "take a pill", {"dose": 2})
    assert capsys.readouterr().out.splitlines() == [
        "OK  says: well",
        "BAD says: ill",
        "      → take a pill",
        "      | a word for the log",
    ]


@pytest.mark.parametrize(
    ("name", "limit_s", "text"),
    [
        ("raises", 60.0, "OSError: no such thing"),
        ("hangs", 1.0, "no end within 1 s"),
        ("dies", 60.0, "ended by SIGKILL"),
    ],
)
def test_a_check_that_breaks_is_bad_and_the_next_has_its_turn(
    name: str, limit_s: float, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpu_check.IMPORTS_S", 0.0)
    assert found(name, tmp_path, monkeypatch, limit_s=limit_s) == [Finding(name, False, text, ADVICE)]


def test_without_a_gpu_what_needs_one_is_named_and_left_out(tmp_path: Path) -> None:
    machine = detect(
        ranks=1, memory_limit_bytes=None, visible_devices="", disk_path=tmp_path, nvml=VendorNvml(no_driver())
    )
    report = Report({})
    run([check for check in CHECKS if check.needs_gpu], machine, 60.0, report, tmp_path / "log")
    assert set(report.left_out.values()) == {"needs a GPU"}
    assert not report.findings


@pytest.mark.slow
def test_what_a_cpu_can_show_is_as_it_should_be(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--device", "cpu", "--out", str(tmp_path / "check.json")]
    ended = subprocess.run(
        [*command, "--only", "machine", "devices", "forked", "cap", "group", "trace"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    checks = {finding["check"] for finding in json.loads((tmp_path / "check.json").read_text())["findings"]}
    assert {"visible devices", "memory cap", "process group", "rehearsal group", "trace"} <= checks

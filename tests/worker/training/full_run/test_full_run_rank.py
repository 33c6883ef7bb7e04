"""The full run's rank before any torch: what it is told, and whom it follows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest

from autofit.app.probe_specs import training_files
from autofit.domain.codec import decode
from autofit.domain.event import Note
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.outcome import Measured, Phase
from autofit.domain.strategy import Strategy
from autofit.domain.trial import Choice
from autofit.process.build_locks.build_wait import BuildWait
from autofit.process.rank_place import PlaceFile, RankPlace, beat_ns, read_place
from autofit.running.training_command import TrainingFiles, training_arguments
from autofit.runs.run_folder import RunFolder
from autofit.worker.training.full_run.full_run_rank import _job, _options, _wait_teller
from tests.builders import make_device, make_hardware, make_request, make_rung

REQUEST = make_request()


def test_rank_0_tells_once_for_whom_it_waits_and_to_wait_is_a_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = tmp_path / "progress.jsonl"
    for rank in range(2):
        monkeypatch.setenv("RANK", str(rank))
        hear = _wait_teller(PlaceFile(tmp_path, rank), progress)
        for _ in range(2):
            hear(BuildWait("op", "/builds/op/lock", 12))
    (line,) = progress.read_text().splitlines()
    assert "process 12" in decode(Note, json.loads(line)).text
    for rank in range(2):
        assert beat_ns(tmp_path, rank) > 0
        assert read_place(tmp_path, rank) == RankPlace(os.getpid(), Phase.START)


def test_the_rank_understands_what_the_launcher_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    files = TrainingFiles(*(Path("/run", field.name) for field in fields(TrainingFiles)))
    hardware = make_hardware(devices=[make_device(n, DeviceKind.CUDA) for n in (2, 5)])
    words = [*training_arguments(hardware, files), "--supervisor", "12", "--local_rank=1"]
    monkeypatch.setattr(sys, "argv", ["train", *words])
    options = _options()
    told = TrainingFiles(
        options.request, options.choice, options.deepspeed_config, options.checkpoints, options.model_out,
        options.reports, options.progress,
    )  # fmt: skip
    assert told == files
    assert options.devices == "2,5"
    assert (options.device_kind, options.supervisor, options.local_rank) == ("cuda", 12, 1)


def test_the_job_is_what_the_run_folder_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    request = replace(REQUEST, memory_limit_bytes=5, data="d.jsonl")
    strategy = Strategy(
        make_rung(2, method=Method.LORA, gradient_checkpointing=GradientCheckpointing.ON),
        4,
        2,
    )
    folder.write_request(request)
    folder.write_choice(Choice(strategy, Measured(1, 1, 1.0, 1.0, 1.0, 0.0), "fastest"))
    folder.write_ds_config({"train_batch_size": 32})
    monkeypatch.setattr(sys, "argv", _words(folder))
    monkeypatch.setenv("WORLD_SIZE", "4")
    job = _job(_options())
    assert (job.request, job.strategy, job.rank_count) == (request, strategy, 4)
    assert (job.kind, job.memory_limit_bytes) == (DeviceKind.CPU, 5)
    assert job.deepspeed_config == folder.ds_config.read_text()


def test_a_job_without_an_engine_has_no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, strategy = RunFolder(tmp_path), Strategy(make_rung(0), 4, 2)
    folder.write_request(REQUEST)
    folder.write_choice(Choice(strategy, Measured(1, 1, 1.0, 1.0, 1.0, 0.0), "fastest"))
    files = training_files(folder, strategy.rung)
    monkeypatch.setattr(sys, "argv", ["train", *training_arguments(make_hardware(), files)])
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert _job(_options()).deepspeed_config is None


def test_the_command_of_an_older_run_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [*_words(RunFolder(tmp_path)), "--beat", "rerun/beat"])
    assert _options().reports == RunFolder(tmp_path).logs


def _words(folder: RunFolder) -> list[str]:
    files = TrainingFiles(
        folder.request, folder.choice, folder.ds_config, folder.checkpoints, folder.model, folder.logs,
        folder.progress,
    )  # fmt: skip
    return ["train", *training_arguments(make_hardware(), files)]


# A rank that follows the process named by its argument, and is then stuck as in a collective.
FOLLOWER = """
import signal, sys
from autofit.worker.training.full_run.full_run_rank import _follow_supervisor
_follow_supervisor(int(sys.argv[1]))
print("follows", flush=True)
while True:
    signal.pause()
"""


def follow(process_id: int) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-c", FOLLOWER, str(process_id)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def supervisor() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def test_a_rank_ends_when_its_supervisor_is_killed(supervisor: subprocess.Popen[bytes]) -> None:
    with follow(supervisor.pid) as rank:
        assert rank.stdout is not None
        assert rank.stdout.readline() == b"follows\n"
        assert rank.poll() is None
        supervisor.send_signal(signal.SIGKILL)
        assert rank.wait(60) == -signal.SIGKILL


def test_a_rank_whose_supervisor_has_gone_does_not_begin(supervisor: subprocess.Popen[bytes]) -> None:
    supervisor.kill()
    supervisor.wait()
    with follow(supervisor.pid) as rank:
        out, complaint = rank.communicate(timeout=60)
    assert (rank.returncode, out) == (1, b"")
    assert str(supervisor.pid).encode() in complaint


def test_a_rank_of_the_script_follows_nobody() -> None:
    with follow(0) as rank:
        assert rank.stdout is not None
        assert rank.stdout.readline() == b"follows\n"
        assert rank.poll() is None
        rank.kill()

"""The run folder survives kills, other versions and other autofits."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind
from autofit.domain.line_decision import Decision, Kept, Settled
from autofit.domain.request import Lora, Training
from autofit.domain.training_length import Said, SaidLength, TrainingLength
from autofit.process import files
from autofit.runs.request_diff import FLAGS, differences
from autofit.runs.run_folder import RunFolder, has_weights
from tests.report import simulated


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.mark.parametrize(("umask", "mode"), [(0o000, 0o755), (0o002, 0o755), (0o027, 0o750), (0o077, 0o700)])
def test_it_is_read_as_the_umask_says_and_written_by_nobody_else(folder: RunFolder, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with folder.lock():
            folder.write_request(simulated.REQUEST)
            folder.write_choice(simulated.CHOICE)
            folder.write_ds_config({"bf16": {"enabled": True}})
            folder.write_command("#!/bin/sh\n")
            folder.append_trial(simulated.TRIALS[0])
    finally:
        os.umask(before)
    folders = {folder.root, folder.logs, folder.checkpoints, folder.command}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {mode}
    others = set(folder.root.rglob("*")) - folders
    assert len(others) == 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in others} == {mode & 0o666}


def test_a_folder_into_which_everybody_may_write_is_told(folder: RunFolder) -> None:
    folder.root.mkdir()
    told: list[str] = []
    for mode in (0o775, 0o777):
        folder.root.chmod(mode)
        with folder.lock(told.append):
            pass
    assert len(told) == 1
    assert told[0].endswith(f"`chmod o-w {folder.root}` ends that")


def trials_path(folder: RunFolder) -> Path:
    return folder.root / "trials.jsonl"


def test_what_is_written_is_read(folder: RunFolder) -> None:
    assert not folder.exists
    folder.write_request(simulated.REQUEST)
    folder.write_hardware(simulated.HARDWARE)
    folder.write_choice(simulated.CHOICE)
    folder.write_result(simulated.RESULT)
    for trial in simulated.TRIALS:
        folder.append_trial(trial)
    assert folder.exists
    record = folder.read_record()
    assert (record.request, record.hardware) == (simulated.REQUEST, simulated.HARDWARE)
    assert (record.choice, record.result) == (simulated.CHOICE, replace(simulated.RESULT, model_path=str(folder.model)))
    assert record.trials == simulated.TRIALS


def test_how_a_line_of_deepspeed_is_started_is_read_where_the_folder_lies(folder: RunFolder, tmp_path: Path) -> None:
    own = Kept("a", Decision("as it is", DeviceKind.CUDA))
    turned = Kept("b", Decision("zero2", DeviceKind.CUDA, str(folder.ds_config)))
    said = SaidLength(Said(8, "--max_steps"))
    long = replace(own, settled=Settled(said, TrainingLength(8, "--max_steps"), reach_s=60.0, epoch_steps=6.5))
    for kept in (own, long, turned):
        folder.write_decision(kept)
        assert folder.read_decision() == kept
    folder.root.rename(tmp_path / "copy")
    read = RunFolder(tmp_path / "copy").read_decision()
    assert read is not None
    assert read.decision.config_path == str(tmp_path / "copy/ds_config.json")


def test_a_choice_without_an_engine_leaves_no_configuration_of_an_earlier_one(folder: RunFolder) -> None:
    folder.create()
    folder.write_ds_config(None)
    folder.write_ds_config({"train_batch_size": 8})
    folder.write_ds_config(None)
    assert not folder.ds_config.exists()


def test_an_empty_folder_answers_none(folder: RunFolder) -> None:
    assert folder.read_request() is None
    assert folder.read_trials() == ()
    with pytest.raises(UsageError, match="is no run folder"):
        folder.read_record()


def test_every_json_file_carries_the_schema(folder: RunFolder) -> None:
    folder.write_request(simulated.REQUEST)
    folder.write_ds_config({"zero_optimization": {"stage": 2}})
    folder.append_trial(simulated.TRIALS[0])
    files = [*folder.root.glob("*.json"), *folder.root.glob("*.jsonl")]
    assert len(files) == 3
    assert all(json.loads(file.read_text())["schema"] == 1 for file in files)


def test_the_command_can_be_executed(folder: RunFolder) -> None:
    folder.write_command("#!/bin/sh\n")
    assert os.access(folder.command, os.X_OK)


def test_a_line_cut_off_by_a_kill_is_dropped(folder: RunFolder) -> None:
    folder.append_trial(simulated.TRIALS[0])
    whole = trials_path(folder).read_bytes()
    trials_path(folder).write_bytes(whole + whole[:40])
    assert folder.read_trials() == simulated.TRIALS[:1]
    folder.append_trial(simulated.TRIALS[1])
    assert folder.read_trials() == simulated.TRIALS[:2]


def test_a_file_that_is_nothing_but_a_cut_line(folder: RunFolder) -> None:
    folder.create()
    trials_path(folder).write_text('{"schema": 1, "ty')
    assert folder.read_trials() == ()
    folder.append_trial(simulated.TRIALS[0])
    assert folder.read_trials() == simulated.TRIALS[:1]


def test_a_damaged_line_is_named(folder: RunFolder) -> None:
    folder.append_trial(simulated.TRIALS[0])
    with trials_path(folder).open("a") as stream:
        stream.write("not json\n")
    with pytest.raises(UsageError, match="line 2"):
        folder.read_trials()


def test_another_schema_is_refused(folder: RunFolder) -> None:
    folder.write_request(simulated.REQUEST)
    body = json.loads(folder.request.read_text())
    folder.request.write_text(json.dumps({**body, "schema": 2}))
    with pytest.raises(UsageError, match="schema 2, this autofit reads schema 1"):
        folder.read_request()


def test_a_failed_write_leaves_the_old_file_alone(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write_request(simulated.REQUEST)

    def fail(*paths: object) -> None:
        raise OSError("no space")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        folder.write_request(replace(simulated.REQUEST, model="other"))
    assert folder.read_request() == simulated.REQUEST
    assert [path.name for path in folder.root.iterdir()] == ["request.json"]


def test_one_autofit_at_a_time(folder: RunFolder) -> None:
    with (
        folder.lock(),
        pytest.raises(UsageError, match=rf"in use by another autofit \(process {os.getpid()}\)"),
        folder.lock(),
    ):
        pass
    with folder.lock():
        assert folder.logs.is_dir()


def test_what_names_another_folder_is_the_flag_of_the_line(tmp_path: Path) -> None:
    """The drop-in's own flags begin with another word than those of `autofit train`."""
    told = []
    for flag in ("--output-dir", "--autofit-output-dir"):
        folder = RunFolder(tmp_path / flag, flag)
        with folder.lock(), pytest.raises(UsageError) as found, folder.lock():
            pass
        told.append((flag, str(found.value)))
        for path, read in ((folder.choice, folder.read_choice), (folder.root / "trials.jsonl", folder.read_trials)):
            path.write_text("{}\n")
            with pytest.raises(UsageError) as found:
                read()
            told.append((flag, str(found.value)))
        foreign = RunFolder(tmp_path / f"foreign{flag}", flag)
        foreign.root.mkdir()
        foreign.command.write_text("somebody's")
        with pytest.raises(UsageError) as found, foreign.lock():
            pass
        told.append((flag, str(found.value)))
    assert len(told) == 8
    assert all(f" {flag}." in text for flag, text in told), told


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--output-dir"), RunFolder(tmp_path / "file" / "run").lock():
        pass


@pytest.mark.parametrize("place", ["/", "home", "home/.."])
def test_a_folder_that_is_nobodys_to_fill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    root = Path(place) if place == "/" else tmp_path / place
    with pytest.raises(UsageError, match="name a folder of its own"), RunFolder(root).lock():
        pass
    assert list(home.iterdir()) == []
    with RunFolder(home / "run").lock():
        pass


def test_a_folder_that_was_begun_and_killed_at_once_is_ours(folder: RunFolder) -> None:
    with folder.lock():
        (folder.logs / "agent.log").touch()
    told: list[str] = []
    with folder.lock(told.append):
        assert told == []


def test_a_run_of_an_autofit_that_left_no_mark_is_ours(folder: RunFolder) -> None:
    folder.write_request(simulated.REQUEST)
    folder.check()
    folder.request.write_text(json.dumps({"type": "Request"}))
    with pytest.raises(UsageError, match=r"request\.json already"):
        folder.check()


def test_the_last_whole_checkpoint(folder: RunFolder) -> None:
    assert not folder.has_training
    for step in (200, 1000):
        (folder.checkpoints / f"checkpoint-{step}").mkdir(parents=True)
        (folder.checkpoints / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    (folder.checkpoints / "checkpoint-1200").mkdir()
    (folder.checkpoints / "checkpoint-best").mkdir()
    (folder.checkpoints / "checkpoint-best" / "trainer_state.json").write_text("{}")
    assert folder.last_checkpoint == str(folder.checkpoints / "checkpoint-1000")
    assert folder.has_training


def test_a_folder_without_a_step_in_its_name_is_none_to_go_on_from(folder: RunFolder) -> None:
    (folder.checkpoints / "checkpoint-best").mkdir(parents=True)
    (folder.checkpoints / "checkpoint-best" / "trainer_state.json").write_text("{}")
    assert folder.last_checkpoint is None
    assert not folder.has_training


def test_checkpoints_of_later_steps_make_way_for_the_one_to_start_from(folder: RunFolder) -> None:
    names = ["checkpoint-8", "checkpoint-10", "checkpoint-12", "checkpoint-best", "checkpoint-²"]
    for name in names:
        (folder.checkpoints / name).mkdir(parents=True)
    told: list[str] = []
    folder.set_checkpoints_aside(str(folder.checkpoints.resolve() / "checkpoint-10"), told.append)
    assert {path.name for path in folder.checkpoints.iterdir()} == {*names} - {"checkpoint-12"}
    folder.set_checkpoints_aside(str(folder.checkpoints.resolve() / "checkpoint-best"), told.append)
    assert {path.name for path in folder.checkpoints.iterdir()} == {"checkpoint-best", "checkpoint-²"}
    assert [text.partition(" ")[0] for text in told] == ["1", "2"]


def test_an_archived_run_is_kept_aside(folder: RunFolder) -> None:
    for _ in range(2):
        with folder.lock():
            folder.write_request(simulated.REQUEST)
            told: list[str] = []
            folder.archive(told.append)
            assert not folder.exists
            assert str(folder.root / "earlier") in told[0]
    assert {path.parent.name for path in folder.root.glob("earlier/*/request.json")} == {"1", "2"}


def test_logs_of_probes_have_names_of_their_own(folder: RunFolder) -> None:
    logs = {folder.probe_log(simulated.strategy("zero2+lora", 4), n).name for n in (1, 2)}
    assert logs == {"probe-01-zero2+lora-mb4.log", "probe-02-zero2+lora-mb4.log"}


def test_what_a_killed_command_has_left_for_its_probes_goes_with_the_next(folder: RunFolder) -> None:
    folder.create()
    killed = folder.scratch()
    (killed.__enter__() / "probe1").mkdir()
    (folder.root / "scratch-of-the-users").mkdir()
    with folder.scratch() as now:
        assert list(now.iterdir()) == []
        assert [path for path in folder.root.glob("*scratch-*") if path != now] == [
            folder.root / "scratch-of-the-users"
        ]
    assert not now.exists()


def test_differences_are_spelt_as_flags() -> None:
    old = simulated.REQUEST
    new = replace(old, sequence_length=4096, training=Training(merge=True, resume="somewhere"))
    assert differences(old, new) == ("--seq (2048, now 4096)", "--merge (off, now on)")
    assert differences(old, old) == ()


def test_every_field_of_a_request_has_a_flag() -> None:
    from autofit.runs.request_diff import _leaves

    not_trained = {"baseline", "training.resume", "training.on_divergence", "allowed_drop", "trust_remote_code"} | {
        "training.max_lost_minutes",
        "training.grace_s",
    }
    request = replace(simulated.REQUEST, lora=Lora(exclude_modules=("lm_head",)))
    assert {name for name, _ in _leaves(request)} == {*FLAGS, *not_trained}


@pytest.mark.parametrize("entry", ["model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors"])
def test_a_model_is_there_when_the_file_that_is_written_last_is(entry: str, tmp_path: Path) -> None:
    (tmp_path / "model-00001-of-00002.safetensors").touch()
    assert not has_weights(tmp_path)
    (tmp_path / entry).touch()
    assert has_weights(tmp_path)

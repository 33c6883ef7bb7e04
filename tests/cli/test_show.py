"""`autofit show` and `autofit doctor`."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from autofit.domain.efficiency import Rated
from autofit.domain.hardware import DeviceKind
from autofit.domain.line_decision import Decision, Kept, Settled
from autofit.domain.outcome import Measured
from autofit.domain.timeline import LaunchTimeline
from autofit.domain.training_length import Said, SaidLength, TrainingLength
from autofit.domain.workload import Learned, RowCounts
from autofit.hardware import machine
from autofit.planning.plan.baseline import measured_cost
from autofit.runs.run_folder import RunFolder
from tests.cli.command import end
from tests.fake_checkpoint import write_checkpoint
from tests.report import simulated


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.write_request(simulated.REQUEST)
    folder.write_hardware(simulated.HARDWARE)
    for trial in simulated.TRIALS:
        folder.append_trial(trial)
    folder.write_choice(simulated.CHOICE)
    return folder.root


def output_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert end(*words) == 0
    return capsys.readouterr().out


def test_how_long_a_script_trains_and_what_the_wait_was(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settled = Settled(SaidLength(Said(300, "--max_steps")), TrainingLength(300, "--max_steps"))
    kept = Kept("key", Decision("zero2", DeviceKind.CUDA), settled, LaunchTimeline(20.0, 94.0, 95.0))
    RunFolder(run).write_decision(kept)
    text = " ".join(output_of(capsys, "show", str(run)).split())
    assert "length the training takes 300 steps, by --max_steps" in text
    assert "decided in 1:34" in text
    assert "time looks at the script after 20 s · choice after 1:14 more · handed over after 1.0 s more" in text
    launch = json.loads(output_of(capsys, "show", str(run), "--json"))["launch"]
    assert (launch["settled"]["length"]["step_count"], launch["timeline"]["chosen_s"]) == (300, 94.0)


def test_the_trials_and_the_choice(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = output_of(capsys, "show", str(run))
    assert "out of memory in backward, 1.2 GB short" in text
    assert "choice   zero1+lora mb4 · 31,200 tokens/s" in text
    assert "--method full" in text
    assert "goes on from here" in text


def test_several_trainings_in_a_row_stand_one_under_the_other(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("10-grpo", "2-reward"):
        shutil.copytree(run, run.parent / "all" / name)
    (run.parent / "all" / "3-notes").mkdir()
    text = output_of(capsys, "show", str(run.parent / "all"))
    assert [line for line in text.splitlines() if line.startswith("phase")] == ["phase    reward", "phase    grpo"]
    assert text.count("choice   zero1+lora mb4 · 31,200 tokens/s") == 2
    assert str(run.parent / "all" / "10-grpo") in text.replace("\n         ", "")
    body = json.loads(output_of(capsys, "show", str(run.parent / "all"), "--json"))
    alone = json.loads(output_of(capsys, "show", str(run), "--json"))
    schema = alone.pop("schema")
    assert body == {"schema": schema, "phases": [{"phase": name, **alone} for name in ("reward", "grpo")]}


def test_a_finished_run_says_where_the_model_lies(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunFolder(run).write_result(simulated.RESULT)
    (run / "model").mkdir()
    (run / "model/model.safetensors").touch()
    text = output_of(capsys, "show", str(run))
    assert f"model    {run}/model" in text.replace("\n         ", "")
    assert "is gone" not in text


def test_a_finished_run_whose_model_was_deleted_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunFolder(run).write_result(simulated.RESULT)
    assert "is gone" in output_of(capsys, "show", str(run))
    assert json.loads(output_of(capsys, "show", str(run), "--json"))["lost"] == [f"{run}/model"]


def test_the_last_and_the_best_checkpoint_are_told_apart(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "saved" not in output_of(capsys, "show", str(run))
    for step in (40, 80, 120, 160):
        write_checkpoint(run / f"checkpoints/checkpoint-{step}")
    state = {"best_model_checkpoint": str(run / "checkpoints/checkpoint-80")}
    (run / "checkpoints/checkpoint-120/trainer_state.json").write_text(json.dumps(state))
    (run / "checkpoints/checkpoint-160/trainer_state.json").unlink()
    text = " ".join(output_of(capsys, "show", str(run)).split())
    assert "saved 3 checkpoints · the last of step 120 · the best of step 80" in text
    assert "is not whole (it has no readable trainer_state.json) and is passed over" in text
    body = json.loads(output_of(capsys, "show", str(run), "--json"))
    assert (body["saved"]["whole"], body["saved"]["best"]) == ([40, 80, 120], 80)


def test_a_damaged_run_asks_for_no_flag_of_another_command(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "choice.json").write_text("{")
    assert end("show", str(run)) == 2
    assert "choose another RUN." in capsys.readouterr().err


def test_the_run_as_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = json.loads(output_of(capsys, "show", str(run), "--json"))
    assert len(body["trials"]) == len(simulated.TRIALS)
    assert body["choice"]["measured"]["tokens_per_s"] == 31_200.0
    assert body["result"] is None


def test_what_is_lost_of_the_data_is_kept(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "learns" not in output_of(capsys, "show", str(run))
    counts = RowCounts(400, dropped=22, cut=31, cut_answers=12)
    RunFolder(run).write_profile(replace(simulated.PROFILE, learned=Learned.MARKED_TURNS, rows=counts))
    text = " ".join(output_of(capsys, "show", str(run)).split())
    assert "learns the assistant's turns, as the chat template marks them" in text
    assert "rows 400 in all · 22 dropped" in text
    assert json.loads(output_of(capsys, "show", str(run), "--json"))["data"]["rows"]["dropped"] == 22


def test_another_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert end("show", str(tmp_path)) == 2
    assert "is no run folder" in capsys.readouterr().err


@pytest.fixture
def eight_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "detect_here", lambda disk_path: simulated.HARDWARE)


@pytest.mark.usefixtures("eight_gpus")
def test_doctor_names_the_machine_and_the_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    text = output_of(capsys, "doctor")
    assert "8 × A100-SXM4-80GB" in text
    assert "torch" in text
    assert "sdpa works" in text


@pytest.mark.usefixtures("eight_gpus")
def test_doctor_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    body = json.loads(output_of(capsys, "doctor", "--json"))
    assert body["attention"]["sdpa"] is None
    assert {finding["name"] for finding in body["toolchain"]} >= {"torch", "deepspeed", "g++"}


def test_the_ratios_of_what_was_chosen(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a line whatever the width, and of every trial in a wide table and for programs."""
    plainest = simulated.TRIALS[0]
    assert isinstance(plainest.outcome, Measured)
    baseline = Rated(plainest.strategy, measured_cost(plainest.outcome, DeviceKind.CUDA))
    RunFolder(run).write_choice(replace(simulated.CHOICE, baseline=baseline))
    monkeypatch.delenv("COLUMNS", raising=False)
    narrow = output_of(capsys, "show", str(run))
    monkeypatch.setenv("COLUMNS", "120")
    wide = output_of(capsys, "show", str(run))

    assert "ratios   SpeedUp 1.41× · MemoryUp 0.54× of zero1+lora mb1" in narrow
    assert "tokens/s   SpeedUp  MemoryUp\n" not in narrow
    assert "tokens/s   SpeedUp  MemoryUp\n" in wide
    trials = json.loads(output_of(capsys, "show", str(run), "--json"))["trials"]
    assert trials[0]["efficiency"]["speed_up"] == 1.0

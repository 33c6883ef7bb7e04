"""`autofit compare`, from the command line to the screen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from autofit.app import compare
from autofit.store import Store
from tests.builders import make_hardware
from tests.cli.command import end
from tests.fake_agent import SimulatedMachine
from tests.hardware.model_folder import TINY_TENSORS, write_config, write_safetensors


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimulatedMachine:
    simulated = SimulatedMachine()
    tools = replace(
        compare.REAL_TOOLS,
        detect=lambda *_, **asked: make_hardware(2),
        open_store=lambda: Store(tmp_path / "store.sqlite"),
        start_tracer=simulated.start_tracer,
        start_agent=simulated.start_agent,
    )
    for story in (compare.predict, compare.measure):
        defaults = story.__kwdefaults__ or {}
        monkeypatch.setattr(story, "__kwdefaults__", {**defaults, "tools": tools})
    monkeypatch.chdir(tmp_path)
    return simulated


@pytest.fixture
def model(tmp_path: Path) -> str:
    """With weights, as a training has them."""
    folder = write_config(tmp_path / "llama")
    write_safetensors(folder / "model.safetensors", TINY_TENSORS)
    return str(folder)


def run(*words: str) -> int:
    return end("compare", *words)


def test_machines_are_compared_by_predictions_task_by_task(
    machine: SimulatedMachine, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", model, "--seq", "64", "--tasks", "sft,dpo,sft", "--on", "1xV100-32GB", "--on", "4xA100-40GB"]
    assert run(*words) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if line.startswith(("sft ", "dpo "))] == ["sft", "dpo"] * 2
    assert out.count("SpeedUp  MemoryUp  EnergyUp") == 4
    assert out.count("\nall tasks ") == 2
    assert machine.specs == []


def test_probes_here_leave_their_trials_in_a_folder_of_the_comparison(
    machine: SimulatedMachine, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--model", model, "--seq", "64", "--epochs", "2", "--json") == 0
    captured = capsys.readouterr()
    (compared,) = json.loads(captured.out)["machines"]
    assert compared["tasks"][0]["baseline"]["is_measured"] is True
    assert len(machine.specs) == 6
    assert Path("autofit-runs/compare-llama-64/sft/trials.jsonl").is_file()
    assert captured.err.count("autofit: sft · ") == 6


def test_generated_answers_need_a_reward_for_probes_and_none_for_predictions(
    machine: SimulatedMachine, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model", model, "--seq", "64", "--tasks", "sft,grpo"]
    assert run(*words) == 2
    assert "--task grpo needs something that rewards an answer" in capsys.readouterr().err
    assert run(*words, "--on", "4xA100-40GB") == 0
    assert run(*words, "--reward", "rewards.py:brief", "--num-generations", "4") == 0
    assert {spec.job.request.generation.count for spec in machine.specs[6:]} == {4}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--tasks", "sft,ppo"], "'ppo' is not one of sft, reward, dpo, kto, grpo."),
        (["--tasks", ","], "name one at least of sft, reward, dpo, kto, grpo."),
        (["--baseline", "zero7"], "--baseline zero7 is no strategy of this request"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_sentence(
    machine: SimulatedMachine, model: str, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert run("--model", model, "--seq", "64", *words) == 2
    assert told in capsys.readouterr().err
    assert machine.specs == []

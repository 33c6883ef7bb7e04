"""Recipes: flags in a file, the same as on the command line, which wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from autofit.domain.knobs.gradient_checkpointing import GRADIENT_CHECKPOINTING, GradientCheckpointing
from autofit.domain.knobs.method import METHOD, Method
from autofit.domain.knobs.offload import OFFLOAD, Offload
from autofit.domain.knobs.zero_stage import ZERO_STAGE
from autofit.domain.request import Request, Training
from tests.cli.command import end

SHIPPED = sorted((Path(__file__).parents[3] / "recipes").glob("*.yaml"))


def run(*words: str) -> int:
    return end("train", *words)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return tmp_path / "recipe.yaml"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_ships_is_a_request(calls: list[dict[str, Any]], path: Path) -> None:
    assert run("--recipe", str(path)) == 0
    phases = calls[-1].get("phases", ())
    requests = [phase.request for phase in phases] or [calls[-1]["request"]]
    for request in requests:
        assert isinstance(request, Request)
        assert request.model in path.read_text()
        assert request.training.learning_rate is not None


def test_four_recipes_ship() -> None:
    assert [path.stem for path in SHIPPED] == ["llama-2-13b-lora", "llama-2-7b-full", "three-phases", "tiny-cpu"]


def test_every_kind_of_value(calls: list[dict[str, Any]], recipe: Path) -> None:
    recipe.write_text(
        "model: m\nmax_length: 64\nlearning-rate: 2e-4\nmemory-limit: 24GiB\nzero-stage: 3\noffload: none\n"
        "gradient-checkpointing: on\nlora-target-modules: [q_proj, o_proj]\nreport-to: [wandb, tensorboard]\n"
        "merge: true\nmethod: lora\noutput-dir: a_b\n"
    )
    assert run("--recipe", str(recipe)) == 0
    request = calls[-1]["request"]
    assert (request.model, request.sequence_length, request.memory_limit_bytes) == ("m", 64, 24 * 2**30)
    assert request.lora.target_modules == ("q_proj", "o_proj")
    assert request.training == Training(learning_rate=2e-4, report_to=("wandb", "tensorboard"), merge=True)
    pins = request.pins
    assert (pins.of(METHOD), pins.of(ZERO_STAGE), pins.of(OFFLOAD)) == (Method.LORA, 3, Offload.NONE)
    assert pins.of(GRADIENT_CHECKPOINTING) is GradientCheckpointing.ON
    assert calls[-1]["output_dir"] == Path("a_b")


@pytest.mark.parametrize("seq", [["--seq", "64"], ["--max_length=64"]])
def test_the_command_line_wins_wherever_it_stands(calls: list[dict[str, Any]], recipe: Path, seq: list[str]) -> None:
    recipe.write_text("model: m\nseq: 512\nepochs: 2\n")
    for words in (["--recipe", str(recipe), *seq], [*seq, "--recipe", str(recipe)]):
        assert run(*words) == 0
        request = calls[-1]["request"]
        assert (request.sequence_length, request.training.epochs) == (64, 2.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: m\nlearning-rat: 1\n", "'learning-rat' is not a flag of autofit train; the nearest is learning-rate."),
        ("model: m\nbatch_sizes: 1\n", "the nearest is batch-size"),
        ("model: m\nrecipe: other.yaml\n", "'recipe' is not a flag"),
        ("model: m\nhelp: true\n", "'help' is not a flag"),
        ("model: m\nseq:\n", "seq needs one value"),
        ("model: m\nseq: {longest: 3}\n", "seq needs one value"),
        ("model: m\nseq: many\n", "not a valid whole number"),
        ("model: [m\n", "is not YAML"),
        ("only words\n", "holds no flags"),
        ("", "holds no flags"),
        ("seq: 64\n", "--model"),
    ],
)
def test_what_makes_no_sense_is_refused(
    calls: list[dict[str, Any]], capsys: pytest.CaptureFixture[str], recipe: Path, text: str, told: str
) -> None:
    recipe.write_text(text)
    assert run("--recipe", str(recipe)) == 2
    assert calls == []
    assert told in capsys.readouterr().err


def test_a_recipe_that_is_not_there(calls: list[dict[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--recipe", "nowhere.yaml") == 2
    assert "nowhere.yaml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("seq: 64\nmodel: m\nseq: 128\n", "recipe.yaml, line 3: seq is given twice, in line 1 already"),
        ("model: m\nmax_steps: 3\nmax-steps: 4\n", "recipe.yaml, line 3: max-steps is given twice, in line 2 already"),
        ("model: m\ntasks:\n  - task: sft\n    lr: 1\n    lr: 2\n", "line 5: lr is given twice, in line 4 already"),
        ("model: m\nlearning_rate: .nan\n", "--learning-rate"),
        ("model: m\nepochs: .inf\n", "--epochs"),
        ('model: "a\\0b"\n', "model holds a character that no command line can"),
        ("a: " + "[" * 30, "is nested too deep for a recipe"),
    ],
)
def test_what_yaml_takes_in_silence_is_refused(
    calls: list[dict[str, Any]], recipe: Path, capsys: pytest.CaptureFixture[str], body: str, sentence: str
) -> None:
    recipe.write_text(body)
    assert run("--recipe", str(recipe)) == 2
    assert sentence in capsys.readouterr().err
    assert calls == []


def test_bytes_that_are_no_text_are_told_with_their_place(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.write_bytes(b"model: m\nseq: \xff\n")
    assert run("--recipe", str(recipe)) == 2
    assert "position 14" in capsys.readouterr().err

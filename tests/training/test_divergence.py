"""Trainings that go wrong for real: they end soon, say so, and keep what was good."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from autofit.domain.knobs.dtype import Dtype
from autofit.domain.outcome import Diverged
from autofit.domain.request import OnDivergence
from autofit.probing.evidence import Evidence
from autofit.probing.protocol import RankEnd
from autofit.report.run_end_text import run_failure_text
from autofit.running.result import run_end
from tests.training.runs import Case, Ended, Runs, training

pytestmark = pytest.mark.slow
Rows = Callable[[int], Path]
# From the second step on, so that the first checkpoint is a good one.
RISING = {"learning_rate": 1e30, "extra_arguments": ("--warmup_steps", "9")}


def _no_such_word(word: str) -> NoReturn:
    raise AssertionError(f"{word} is no JSON")


def strict(path: Path) -> list[dict[str, Any]]:
    """The lines of a file; an error where another reader of JSON would stumble."""
    return [json.loads(line, parse_constant=_no_such_word) for line in path.read_text().splitlines()]


def failure(ended: Ended) -> str:
    """As the command says it."""
    assert ended.codes == [1] * len(ended.codes), ended.log
    ends = tuple(RankEnd(rank, 1, False, report.phase, report) for rank, report in ended.reports.items())
    end = run_end(Evidence(ends, 0, "l", 1.0, exit_code=1), rank_count=len(ended.codes), model_path=ended.model)
    assert isinstance(end, Diverged)
    return run_failure_text(end, Path("l"))


def test_a_training_that_diverges_is_stopped_and_its_good_checkpoint_stays(runs: Runs, model: Path, rows: Rows) -> None:
    request = training(model, rows(37), epochs=20.0, save_steps=1, **RISING)
    ended = runs.autofit(Case(stage=2), request)
    said = failure(ended)
    assert "the gradients are not finite since step 3" in said
    assert f"the last good checkpoint is {ended.folder / 'checkpoints/checkpoint-1'}" in said
    progress = strict(ended.folder / "logs/progress.jsonl")
    assert max(entry["step"] for entry in progress) < 8
    assert progress[-1]["skipped_steps"] >= 2
    assert "not finite since step 3" in progress[-1]["trouble"]
    kept = {path.name for path in (ended.folder / "checkpoints").glob("*-*")}
    assert kept == {"checkpoint-1", "diverged-2"}


def test_a_training_goes_on_where_that_was_asked_for(runs: Runs, model: Path, rows: Rows) -> None:
    request = training(model, rows(37), epochs=3.0, save_steps=1, on_divergence=OnDivergence.WARN, **RISING)
    ended = runs.autofit(Case(stage=3, dtype=Dtype.BF16), request)
    assert ended.codes == [0, 0], ended.log
    assert (ended.trained.step_count, ended.trained.skipped_steps) == (9, 7)
    assert "not finite" in (ended.trained.trouble or "")
    assert [step["step"] for step in ended.steps] == [1, 2], "no checkpoint was saved over the good ones"


def test_a_model_with_an_infinite_weight_is_not_called_trained(
    runs: Runs, model: Path, rows: Rows, tmp_path: Path
) -> None:
    """Two steps, fewer than a training is given to recover."""
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.layers.0.mlp.down_proj.weight"][0, 0] = float("inf")
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    ended = runs.autofit(Case(ranks=1, stage=1), training(broken, rows(16), max_steps=2))
    assert "its loss is not finite" in failure(ended)
    assert not ended.model.exists()
    assert [entry["loss"] for entry in strict(ended.folder / "logs/progress.jsonl")] == [None, None, None]


def test_a_training_that_changes_nothing_is_not_called_one(runs: Runs, model: Path, rows: Rows) -> None:
    """Its only step is the first of a warm-up, at a learning rate of 0."""
    request = training(model, rows(16), max_steps=1, extra_arguments=("--warmup_steps", "9"))
    assert "the training has changed nothing" in failure(runs.autofit(Case(ranks=1), request))
    moved = replace(request, training=replace(request.training, max_steps=2))
    assert runs.autofit(Case(ranks=1), moved).codes == [0]

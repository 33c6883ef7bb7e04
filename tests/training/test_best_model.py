"""A training whose words after the dashes choose the best of its models: to its end, on two ranks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from autofit.domain.knobs.method import Method
from tests.spread import with_matrix
from tests.training.runs import Case, Runs, training

pytestmark = pytest.mark.slow
Rows = Callable[[int], Path]
WORDS = (
    "--eval_strategy epoch --load_best_model_at_end true --max_grad_norm 0.3 --warmup_ratio 0.1 "
    "--lr_scheduler_type cosine --label_smoothing_factor 0.1 "
    "--save_total_limit 1"  # the last is kept beside the best
)


@pytest.mark.parametrize(
    "case",
    with_matrix(
        [Case(stage=2), Case(stage=3, method=Method.LORA), Case(stage=0)],
        [Case(stage=3), Case(stage=2, method=Method.LORA), Case(stage=0, method=Method.LORA)],
    ),
    ids=str,
)
def test_the_model_that_is_saved_is_the_best_one(
    case: Case, runs: Runs, model: Path, rows: Rows, tmp_path: Path
) -> None:
    """It learns 16 rows by heart, and others get worse. A micro-batch of the evaluation has blank rows alone."""
    others = tmp_path / "others.jsonl"
    others.write_text("".join(rows(35).read_text().splitlines(keepends=True)[16:]))
    request = training(model, rows(16), epochs=10.0, learning_rate=3e-2, extra_arguments=tuple(WORDS.split()))
    ended = runs.autofit(case, replace(request, eval_data=str(others)))
    assert ended.codes == [0, 0], ended.log
    if case.stage > 0:
        assert json.loads((ended.folder / "ds_config.json").read_text())["gradient_clipping"] == 0.3
    losses = {entry["step"]: entry["eval_loss"] for entry in ended.history if "eval_loss" in entry}
    best = min(losses, key=losses.__getitem__)
    assert best < max(losses) == 10
    assert ended.trained.eval_loss == pytest.approx(losses[best], rel=1e-5)
    name = "model.safetensors" if case.method is Method.FULL else "adapter_model.safetensors"
    if case.method is Method.LORA:  # what was named, wherever it was read
        adapter = json.loads((ended.model / "adapter_config.json").read_text())
        assert adapter["base_model_name_or_path"] == str(model)
    saved, kept, last = (
        load_file(folder / name)
        for folder in (ended.model, *(ended.folder / f"checkpoints/checkpoint-{step}" for step in (best, 10)))
    )
    assert all((saved[key] == kept[key]).all() for key in kept)
    assert any((saved[key] != last[key]).any() for key in last)
    rates = [step["learning_rate"] for step in ended.steps]
    assert rates[1] == max(rates) == 3e-2  # of ten steps one warms up
    assert rates[-1] < 0.1 * max(rates)

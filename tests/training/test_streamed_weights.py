"""Real ranks that read their weights from the files, each its own part: they train what `from_pretrained` loads."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from autofit.domain.knobs.dtype import Dtype
from tests.training.runs import Case, Runs, training

pytestmark = pytest.mark.slow

LACKING = "model.layers.1.mlp.up_proj.weight"


def test_a_weight_that_the_checkpoint_lacks_is_the_same_on_all_ranks(
    runs: Runs, model: Path, rows: Callable[[int], Path], tmp_path: Path
) -> None:
    """Beside ZeRO-2, where every rank holds all of them and transformers alone has loaded them."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "lacking"
    shutil.copytree(model, folder)
    tensors = {name: one.half() for name, one in load_file(folder / "model.safetensors").items() if name != LACKING}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    request = training(folder, rows(37), max_steps=3)
    divided = runs.autofit(Case(stage=3, dtype=Dtype.FP32), request)
    whole = runs.autofit(Case(stage=2, dtype=Dtype.FP32), request)
    assert (divided.codes, whole.codes) == ([0, 0], [0, 0]), divided.log + whole.log
    assert [step["loss"] for step in divided.steps] == pytest.approx([step["loss"] for step in whole.steps], rel=1e-5)
    assert f"{LACKING} " in divided.log
    assert "MISSING" in divided.log

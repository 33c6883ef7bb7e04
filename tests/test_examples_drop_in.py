"""The scripts of examples/deepspeed, unmodified, under a memory limit in which their own configuration runs out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from autofit.runs.run_folder import RunFolder
from tests.spread import with_matrix

pytestmark = pytest.mark.slow
EXAMPLES = Path(__file__).parents[1] / "examples/deepspeed"
TRAINER = (
    "--use_cpu True --bf16 True --per_device_train_batch_size 8 --gradient_accumulation_steps 1 --max_steps 4 "
    "--logging_steps 1"
)
CASES = {
    "plain_loop.py": ("770MB", "--deepspeed_config ds_plain.json --steps 4", 32),
    "hf_trainer.py": ("850MB", f"--deepspeed ds_trainer.json {TRAINER}", 16),
    "trl_sft.py": (
        "800MB",
        f"--deepspeed ds_trl.json {TRAINER} --packing True --packing_strategy wrapped --max_length 256 "
        "--gradient_checkpointing False",
        16,
    ),
}


@pytest.mark.parametrize("script", with_matrix([], CASES))
def test_a_script_that_knows_nothing_is_tuned_and_trains_to_its_end(script: str, tmp_path: Path) -> None:
    limit, words, global_batch = CASES[script]
    arguments = [str(EXAMPLES / word) if word.endswith(".json") else word for word in words.split()]
    done = subprocess.run(
        [
            *[sys.executable, "-m", "autofit", "--num_gpus", "2", "--autofit-memory-limit", limit],
            *[str(EXAMPLES / script), *arguments, "--output_dir", str(tmp_path / "out")],
        ],
        cwd=tmp_path,
        env={**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1", "AUTOFIT_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"as it is: zero\d mb\d+, out of memory", done.stderr), done.stderr
    assert any((tmp_path / "out").iterdir())
    folder = RunFolder(next((tmp_path / "autofit-runs").glob(f"{Path(script).stem}-*")))
    choice = folder.read_choice()
    assert choice is not None
    strategy = choice.strategy
    assert strategy.micro_batch * strategy.gradient_accumulation * 2 == global_batch
    config = json.loads(folder.ds_config.read_text())
    assert config["zero_optimization"]["stage"] == strategy.rung.zero_stage
    losses = [float(loss) for loss in re.findall(r"loss'?:? '?(\d+\.\d+)", done.stdout)]
    assert len(losses) >= 4, done.stdout
    assert losses[-1] < losses[0]

"""The scripts of examples/deepspeed with plain `deepspeed` on two CPU ranks: they train to their end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from autofit.process.rendezvous import free_port, remove_shared_memory
from tests.spread import with_matrix

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "examples/deepspeed"
TRAINER_FLAGS = (
    "--use_cpu True --bf16 True --per_device_train_batch_size 8 --gradient_accumulation_steps 1 --logging_steps 1"
)


@dataclass(frozen=True)
class Example:
    script: str
    arguments: str  # for two optimizer steps
    loss: str  # the pattern of a printed loss
    output: str  # a file that it leaves behind
    first_loss: float = 7.6  # of a guess among 2,048 tokens


EXAMPLES = (
    Example(
        "plain_loop.py",
        f"--deepspeed_config {SCRIPTS}/ds_plain.json --steps 2",
        r"step \d+ loss (\d+\.\d+)",
        "global_step2/mp_rank_00_model_states.pt",
    ),
    Example(
        "hf_trainer.py",
        f"--deepspeed {SCRIPTS}/ds_trainer.json {TRAINER_FLAGS} --max_steps 2",
        r"'loss': '(\d+\.\d+)'",
        "model.safetensors",
    ),
    Example(
        "trl_sft.py",
        f"--deepspeed {SCRIPTS}/ds_trl.json {TRAINER_FLAGS} --max_steps 2"
        " --packing True --packing_strategy wrapped --max_length 256 --gradient_checkpointing False",
        r"'loss': '(\d+\.\d+)'",
        "model.safetensors",
    ),
    Example(
        "trl_dpo.py",
        f"--deepspeed {SCRIPTS}/ds_trl.json {TRAINER_FLAGS} --max_steps 2",
        r"'loss': '(\d+\.\d+)'",
        "model.safetensors",
        first_loss=0.69,  # of one answer of two
    ),
)


@pytest.fixture(scope="module")
def weights() -> None:
    subprocess.run([sys.executable, ROOT / "examples/make_tiny_model.py"], check=True, timeout=120)


@pytest.mark.slow
@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("example", with_matrix([], EXAMPLES), ids=lambda example: example.script)
def test_a_script_trains_to_its_end_with_plain_deepspeed(example: Example, tmp_path: Path) -> None:
    """test_examples_drop_in.py always trains two of them to their end, with another configuration."""
    output = tmp_path / "out"
    run = deepspeed(example, output, tmp_path)
    assert run.returncode == 0, run.stdout[-4000:]
    losses = [float(loss) for loss in re.findall(example.loss, run.stdout)]
    assert len(losses) == 2
    assert losses == pytest.approx([example.first_loss] * 2, rel=0.3)
    assert (output / example.output).stat().st_size > 0


def deepspeed(example: Example, output: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    binaries, port = Path(sys.executable).parent, free_port()
    words = ["--num_gpus", "2", "--master_port", str(port), str(SCRIPTS / example.script)]
    try:
        return subprocess.run(
            [binaries / "deepspeed", *words, *example.arguments.split(), "--output_dir", str(output)],
            cwd=directory,
            env=os.environ
            | {
                "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
                "DS_ACCELERATOR": "cpu",
                "OMP_NUM_THREADS": "1",
                "HF_DATASETS_CACHE": str(directory / "datasets"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
        )
    finally:
        remove_shared_memory(str(port))  # which plain DeepSpeed leaves behind


def test_no_script_knows_of_autofit() -> None:
    files = [path for path in SCRIPTS.iterdir() if path.is_file()]
    assert {example.script for example in EXAMPLES} == {path.name for path in files if path.suffix == ".py"}
    assert [path.name for path in files if "autofit" in path.read_text("utf-8").lower()] == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.script)
def test_a_script_stays_short(example: Example) -> None:
    assert len((SCRIPTS / example.script).read_text("utf-8").splitlines()) < 80

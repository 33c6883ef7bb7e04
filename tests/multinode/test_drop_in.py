"""The whole of `autofit` in place of `deepspeed` on two hosts: search, training, and what happens to both on an end."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.multinode.rig import DEADLINE_S, Rig, until

pytestmark = [pytest.mark.multinode, pytest.mark.slow]
EXAMPLES = Path(__file__).parents[2] / "examples"
CONFIG = {
    "train_batch_size": 16,
    "bf16": {"enabled": True},
    "optimizer": {"type": "AdamW", "params": {"lr": 5e-4, "torch_adam": True}},
    "zero_optimization": {"stage": 3},
}


def line(rig: Rig, folder: Path, *own: str, steps: int = 3) -> list[str]:
    config = folder / "ds.json"
    config.write_text(json.dumps(CONFIG))
    script = [str(EXAMPLES / "deepspeed/plain_loop.py"), "--deepspeed_config", str(config), "--max_length", "64"]
    script += ["--steps", str(steps), "--output_dir", str(folder / "out")]
    return ["autofit", "--hostfile", str(rig.hostfile), *own, *script]


def await_line(process: subprocess.Popen[str], part: str) -> str:
    assert process.stdout is not None
    heard = []
    for said in process.stdout:
        heard.append(said)
        if part in said:
            return said
    raise AssertionError(f"ended without {part!r}: {''.join(heard)}")


@pytest.mark.matrix
def test_a_search_and_a_training_over_both_hosts(rig: Rig, tmp_path: Path) -> None:
    done = rig.run(line(rig, tmp_path, "--autofit-memory-limit", "800MB"), timeout_s=240.0, cwd=tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "2 CPU ranks" in said
    assert "zero_optimization.stage stays 3 as written" in said, said
    assert "choice" in said
    assert f"{rig.hosts[0].address}: step 3 loss" in said
    folder = next((tmp_path / "autofit-runs").glob("plain_loop-*"))
    config = json.loads((folder / "ds_config.json").read_text())
    assert config["zero_optimization"]["stage"] == 3
    assert config["train_micro_batch_size_per_gpu"] * config["gradient_accumulation_steps"] * 2 == 16
    assert (tmp_path / "out").is_dir()


@pytest.mark.matrix  # in test_signals.py it always is
def test_a_host_that_is_cut_off_in_a_probe_is_named_soon(rig: Rig, tmp_path: Path) -> None:
    process = rig.start(line(rig, tmp_path, steps=1000), cwd=tmp_path)
    await_line(process, "as it is, for a few steps")
    until(lambda: list(rig.hosts[1].processes()) != [], timeout_s=DEADLINE_S, what="ranks on the other host")
    with rig.cut(1):
        out, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1, out
    assert rig.hosts[1].address in out.splitlines()[-1]

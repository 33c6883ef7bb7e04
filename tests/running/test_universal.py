"""A real checkpoint of ZeRO-2, made universal by DeepSpeed's tool."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autofit.inputs.script_checkpoint import read_checkpoint, to_make_universal
from autofit.process.rendezvous import free_port
from autofit.running.deepspeed_tools import make_universal

SAVE = """
import deepspeed, torch
model = torch.nn.Linear(8, 8)
optimizer = {"type": "AdamW", "params": {"torch_adam": True}}
config = {"train_batch_size": 2, "optimizer": optimizer, "zero_optimization": {"stage": 2}}
engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
engine.backward(engine(torch.ones(2, 8)).pow(2).mean())
engine.step()
engine.save_checkpoint("out", tag="five")
"""


@pytest.mark.slow
def test_a_checkpoint_is_made_universal_beside_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    place = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    environment = {**os.environ, **place, "MASTER_PORT": str(free_port("127.0.0.1"))}
    subprocess.run([sys.executable, "-c", SAVE], cwd=tmp_path, env=environment, check=True, timeout=120)
    folder = str(tmp_path / "out")
    found = to_make_universal(folder)
    assert found is not None
    assert (found.zero_stages, found.rank_count) == ((1, 2), 1)
    log_path = tmp_path / "universal.log"
    assert make_universal(found, log_path=log_path), log_path.read_text()
    made = read_checkpoint(folder, is_universal=True)
    assert made is not None
    assert made.path == str(tmp_path / "out/five_universal")
    assert to_make_universal(folder) is None

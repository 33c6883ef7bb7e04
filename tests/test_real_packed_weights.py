"""The whole command on two CPU ranks, for a model that is stored in few bits without bitsandbytes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from tests.worker.model.packed_models import pack_folder

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples/tiny-llama"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


@pytest.mark.parametrize(("layout", "zero_stage"), [("gptq", 3), pytest.param("awq", 0, marks=pytest.mark.matrix)])
def test_an_adapter_learns_on_packed_weights_what_it_learns_on_the_same_plain_ones(
    layout: str, zero_stage: int, tmp_path: Path
) -> None:
    packed, plain = _both(tmp_path, layout)
    adapters = []
    for folder in (packed, plain):
        out = folder / "run"
        words = (
            f"--model {folder} --data {ROOT / 'examples/dialogues.jsonl'} --output-dir {out} --seq 96 --allow-drop "
            f"--ranks 2 --batch-size 4 --micro-batch 2 --method lora --lora-r 4 --zero-stage {zero_stage} "
            "--offload none --gradient-checkpointing off --max-steps 3 --learning-rate 1e-2"
        )
        ended = subprocess.run(
            [sys.executable, "-m", "autofit", "train", *words.split()], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert ("made plain while they are loaded" in ended.stdout) is (folder is packed)
        described = json.loads((out / "model/adapter_config.json").read_text())
        assert described["base_model_name_or_path"] == str(folder)
        adapters.append(load_file(out / "model/adapter_model.safetensors"))
    assert any(tensor.abs().max() > 0 for name, tensor in adapters[0].items() if "lora_B" in name)
    for name, tensor in adapters[0].items():
        assert torch.equal(tensor, adapters[1][name]), name


def _both(folder: Path, layout: str) -> tuple[Path, Path]:
    """Two folders with the same model of random weights, packed and plain."""
    config = AutoConfig.from_pretrained(
        EXAMPLE,
        num_hidden_layers=2,
        hidden_size=64,
        intermediate_size=128,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=16,
    )
    packed, plain = folder / "packed", folder / "plain"
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(packed)
    for name in TOKENIZER:
        shutil.copy(EXAMPLE / name, packed / name)
    shutil.copytree(packed, plain)
    weights = {name: weight.bfloat16().contiguous() for name, weight in pack_folder(packed, layout).items()}
    file = plain / "model.safetensors"
    save_file({**load_file(file), **weights}, file, metadata={"format": "pt"})
    return packed, plain

"""The whole command on rows that ask something of it: refused with exit code 2, and trained with what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tests.training.rows import model_with, tokenizer_with, write

pytestmark = [pytest.mark.slow, pytest.mark.matrix]  # its parts: test_rows_refused.py, test_rows_heard.py

CHATML = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ASKED, ANSWERED = {"role": "user", "content": "Who forgot it?"}, {"role": "assistant", "content": "Ravi."}
GOOD = {"messages": [ASKED, ANSWERED]}
TOO_LONG = {"messages": [{**ASKED, "content": "Who forgot the plant at the station? " * 20}, ANSWERED]}
BAD = {"messages": [{"role": "system", "content": "Be terse."}, ASKED, ANSWERED]}


@pytest.fixture
def model(tmp_path: Path) -> str:
    tokenizer = tokenizer_with(CHATML)
    folder = model_with(tokenizer, tmp_path / "model")
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    return folder


def autofit(folder: Path, model: str, *words: str) -> subprocess.CompletedProcess[str]:
    pins = ["--method", "lora", "--lora-r", "8", "--zero-stage", "2", "--micro-batch", "2"]
    fixed = ["--model", model, "--seq", "64", "--ranks", "2", "--batch-size", "4", "--gradient-checkpointing", "off"]
    command = [sys.executable, "-m", "autofit", "train", *fixed, *pins, "--max-steps", "2", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_rows_decide_whether_it_starts_and_where_its_model_stops(model: str, tmp_path: Path) -> None:
    """Also: what is learned and lost is on the screen and in the run folder, and the template stays the user's."""
    refused = autofit(tmp_path, model, "--data", write(str(tmp_path / "bad.jsonl"), GOOD, BAD))
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "bad.jsonl, line 2: the tokenizer or its chat template refuses it (no system turns)" in " ".join(
        refused.stderr.split()
    )

    data = write(str(tmp_path / "d.jsonl"), *[GOOD] * 8, TOO_LONG, TOO_LONG)
    out = tmp_path / "run"
    trained = autofit(tmp_path, model, "--data", data, "--allow-drop", "--merge", "--output-dir", str(out))
    assert trained.returncode == 0, trained.stdout + trained.stderr
    screen = " ".join(trained.stdout.split())
    assert "learns the assistant's turns, told by comparing the chats as they grow" in screen
    assert "rows 10 in all · 2 dropped" in screen
    assert json.loads((out / "data.json").read_text())["rows"]["dropped"] == 2

    for saved in (out / "model", out / "merged"):
        tokenizer = AutoTokenizer.from_pretrained(saved)
        assert tokenizer.chat_template == CHATML
        eos = GenerationConfig.from_pretrained(saved).eos_token_id
        assert isinstance(eos, list)
        assert tokenizer.convert_tokens_to_ids("<|im_end|>") in eos

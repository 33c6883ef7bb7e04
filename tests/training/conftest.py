"""One warm process for all trainings of this folder, a model of two thin layers, and rows of different lengths."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.training.runs import Runs

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with Runs(tmp_path_factory.mktemp("runs")) as started:
        yield started


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights from a seed, in fp32, with the tokenizer of the tiny model and its embeddings tied to its head."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("model")
    for file in (EXAMPLES / "tiny-llama").glob("tokenizer*"):
        shutil.copy(file, folder)
    config = AutoConfig.from_pretrained(EXAMPLES / "tiny-llama")
    config.update({"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "tie_word_embeddings": True})
    config.update({"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16})
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A file of so many of the shipped rows."""
    folder = tmp_path_factory.mktemp("rows")
    shipped = (EXAMPLES / "dialogues.jsonl").read_text("utf-8").splitlines()

    def write(count: int) -> Path:
        """The shortest, every third with its prompt: from 9 to 57 tokens."""
        pairs = [json.loads(row) for row in sorted(shipped, key=len)[:count]]
        texts = [("" if n % 3 else pair["prompt"]) + pair["completion"] for n, pair in enumerate(pairs)]
        path = folder / f"{count}.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
        return path

    return write

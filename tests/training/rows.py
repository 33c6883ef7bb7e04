"""Rows of a test on their way to the trainer: through autofit, and through plain trl."""

from __future__ import annotations

import copy
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from autofit.worker.data.training_data import TrainingData, training_data
from tests.builders import make_request

MODEL = Path(__file__).parents[2] / "examples/tiny-llama"
IGNORED = -100
_PLAIN = AutoTokenizer.from_pretrained(MODEL)
_CONTROL = re.compile(r"<[^<>\s'\"{}%]{2,40}>|\[/?[A-Z_]+\]")


def plain_tokenizer() -> PreTrainedTokenizerBase:
    return copy.deepcopy(_PLAIN)


def tokenizer_with(template: str) -> PreTrainedTokenizerBase:
    """With this chat template, and each of its control words as a token."""
    tokenizer = plain_tokenizer()
    tokenizer.add_tokens(sorted(set(_CONTROL.findall(template))), special_tokens=True)
    tokenizer.chat_template = template
    return tokenizer


def model_with(tokenizer: PreTrainedTokenizerBase, folder: Path) -> str:
    """A model folder that is complete but for the weights: nothing of the data's way reads them."""
    config = json.loads((MODEL / "config.json").read_text())
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": len(tokenizer)}))
    tokenizer.save_pretrained(str(folder))
    return str(folder)


def write(name: str, *rows: dict[str, Any]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def seen(*rows: dict[str, Any], tokens: int = 512, model: str | None = None, **asked: Any) -> TrainingData:
    """What autofit's trainer is given of `rows`, which must load; `extra` are arguments after `--`."""
    return training_data(make_request(model or MODEL, tokens, data=write("d.jsonl", *rows), **asked))


def learned(data: TrainingData, index: int = 0) -> str:
    """The words that a row's labels hold."""
    return str(data.tokenizer.decode([label for label in data.train[index]["labels"] if label != IGNORED]))


def whole(data: TrainingData, index: int = 0) -> str:
    return str(data.tokenizer.decode(data.train[index]["input_ids"]))


def by_trl(rows: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, **config: Any) -> list[dict[str, Any]]:
    """What plain trl trains on: `input_ids` and `labels`."""
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    with torch.device("cpu"), tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=1, **sizes)),
            args=SFTConfig(output_dir=folder, report_to="none", use_cpu=True, bf16=False, **config),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        return list(trainer.train_dataset.select_columns(["input_ids", "labels"]))

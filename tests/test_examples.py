"""What ships in examples/ is what its scripts write, and what the quickstart needs."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY_LLAMA = EXAMPLES / "tiny-llama"
SAMPLE = EXAMPLES.parent / "autofit" / "worker" / "data" / "sample.jsonl"


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.reload(importlib.import_module(name))


@pytest.fixture
def model_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """make_tiny_model on a copy of the folder that holds no weights."""
    module = script("make_tiny_model", monkeypatch)
    copy = tmp_path / "examples" / "tiny-llama"
    shutil.copytree(TINY_LLAMA, copy, ignore=shutil.ignore_patterns("*.safetensors"))
    monkeypatch.setattr(module, "HERE", copy.parent)
    monkeypatch.setattr(module, "MODEL", copy)
    monkeypatch.setattr(module, "WEIGHTS", copy / "model.safetensors")
    return module


def test_the_committed_files_are_what_the_generator_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    files = script("make_dialogues", monkeypatch).files()
    assert set(files) == {EXAMPLES / "dialogues.jsonl", EXAMPLES / "dialogues-eval.jsonl", SAMPLE}
    assert [path.name for path, content in files.items() if path.read_text("utf-8") != content] == []


def test_the_committed_preferences_are_what_their_generator_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    files = script("make_preferences", monkeypatch).files()
    samples = {SAMPLE.with_name(f"sample-{kind}.jsonl") for kind in ("preferences", "judged", "prompts")}
    assert set(files) == {EXAMPLES / "preferences.jsonl", *samples}
    assert [path.name for path, content in files.items() if path.read_text("utf-8") != content] == []
    assert sum(len(content) for content in files.values()) < 150_000


def test_the_better_answer_is_the_short_and_friendly_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rewards = script("rewards", monkeypatch)
    pairs = rows(EXAMPLES / "preferences.jsonl")
    better, worse = ([row[name] for row in pairs] for name in ("chosen", "rejected"))
    assert rewards.friendly(better) == [1.0] * len(pairs)
    assert rewards.friendly(worse) == [0.0] * len(pairs)
    assert sum(rewards.brief(better)) > 1.2 * sum(rewards.brief(worse))
    prompts = rows(SAMPLE.with_name("sample-prompts.jsonl"))
    answers = {row["prompt"]: row["chosen"] for row in pairs}
    told = [answers[row["prompt"]] for row in prompts]
    assert rewards.right(told, answer=[row["answer"] for row in prompts]) == [1.0] * len(prompts)


def test_rewards_read_texts_and_messages_and_know_when_they_cannot_say(monkeypatch: pytest.MonkeyPatch) -> None:
    rewards = script("rewards", monkeypatch)
    text, turns = "Gladly: at noon.", [{"role": "assistant", "content": "Gladly: at noon."}]
    for reward in (rewards.brief, rewards.friendly):
        assert reward(completions=[text, turns], prompts=["q", "q"], trainer_state=None) == [1.0, 1.0]
    assert rewards.brief(["", "word " * 60]) == [0.0, pytest.approx(0.0183, abs=1e-4)]
    assert rewards.right([text, turns, text], answer=["noon", "one", None]) == [1.0, 0.0, None]
    assert rewards.right([text]) == [None]


def test_the_generator_writes_what_is_missing_and_tells_what_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("make_dialogues", monkeypatch)
    target = tmp_path / "some.jsonl"
    monkeypatch.setattr(module, "HERE", tmp_path / "examples")
    monkeypatch.setattr(module, "files", lambda: {target: "content\n"})
    assert module.main(["--check"]) == 1
    assert not target.exists()
    assert module.main([]) == 0
    assert target.read_text() == "content\n"
    assert module.main(["--check"]) == 0


def test_evaluation_dialogues_are_unseen_ones() -> None:
    train, evaluation = rows(EXAMPLES / "dialogues.jsonl"), rows(EXAMPLES / "dialogues-eval.jsonl")
    prompts = {row["prompt"] for row in train}
    assert (len(prompts), len(evaluation)) == (400, 40)
    assert not prompts & {row["prompt"] for row in evaluation}


def test_dialogues_are_short_and_of_different_lengths() -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY_LLAMA, local_files_only=True)
    train = rows(EXAMPLES / "dialogues.jsonl")
    turns = {row["prompt"].split("\n\n")[0].count("\n") + 1 for row in train}
    tokens = [len(tokenizer(row["prompt"] + row["completion"])["input_ids"]) for row in train]
    assert turns == set(range(3, 9))
    assert 35 <= min(tokens) < 60
    assert 120 < max(tokens) <= 180


def test_no_slot_is_left_open_and_each_dialogue_has_two_speakers() -> None:
    for row in rows(EXAMPLES / "dialogues.jsonl"):
        assert "{" not in row["prompt"] + row["completion"]
        assert len({line.split(":")[0] for line in row["prompt"].split("\n\n")[0].splitlines()}) == 2


def test_the_tokenizer_gives_back_any_text_and_fits_the_model() -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY_LLAMA, local_files_only=True)
    config = AutoConfig.from_pretrained(TINY_LLAMA, local_files_only=True)
    text = "Zoë:  naïve\n\t€5?"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert tokenizer(text)["input_ids"][0] == tokenizer.bos_token_id == config.bos_token_id
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (config.eos_token_id, config.pad_token_id)
    assert len(tokenizer) <= config.vocab_size
    assert tokenizer.chat_template is None


def test_a_prompt_ends_on_a_token_boundary() -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY_LLAMA, local_files_only=True)
    for row in rows(EXAMPLES / "dialogues-eval.jsonl"):
        prompt = tokenizer(row["prompt"])["input_ids"]
        assert tokenizer(row["prompt"] + row["completion"])["input_ids"][: len(prompt)] == prompt


def test_what_is_committed_of_the_model_is_small() -> None:
    files = [path for path in TINY_LLAMA.iterdir() if path.suffix != ".safetensors"]
    assert sum(path.stat().st_size for path in files) < 300_000


def test_the_weights_are_written_once_whole_and_from_the_seed(model_script: ModuleType) -> None:
    weights, committed = model_script.WEIGHTS, {path: path.read_bytes() for path in model_script.MODEL.iterdir()}
    assert model_script.main([]) == 0
    first = {name: tensor.clone() for name, tensor in load_file(weights).items()}  # the file itself is mapped
    written_at_ns = weights.stat().st_mtime_ns
    assert model_script.main([]) == 0
    assert weights.stat().st_mtime_ns == written_at_ns
    weights.write_bytes(weights.read_bytes()[:-1])
    assert model_script.main([]) == 0
    again = load_file(weights)
    assert len(first) > 10
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert {path: path.read_bytes() for path in model_script.MODEL.iterdir() if path != weights} == committed


def test_weights_of_another_configuration_are_written_anew(model_script: ModuleType) -> None:
    model_script.write_weights()
    assert model_script.are_whole(model_script.WEIGHTS)
    config = model_script.MODEL / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 8', '"num_hidden_layers": 7'))
    assert not model_script.are_whole(model_script.WEIGHTS)


def test_the_model_loads_with_the_parameters_it_should_have(model_script: ModuleType) -> None:
    model_script.write_weights()
    model = AutoModelForCausalLM.from_pretrained(model_script.MODEL, local_files_only=True)
    assert 12e6 < model.num_parameters() < 16e6
    assert model.lm_head.weight is not model.model.embed_tokens.weight
    assert model(torch.tensor([[1, 5, 6]])).logits.shape == (1, 3, model.config.vocab_size)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x00" * 4, b"\xff" * 64, (2).to_bytes(8, "little") + b"{}"],
    ids=["empty", "cut", "noise", "none"],
)
def test_weights_that_are_not_weights_are_not_whole(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "model.safetensors"
    module = script("make_tiny_model", monkeypatch)
    assert not module.are_whole(weights)
    weights.write_bytes(content)
    assert not module.are_whole(weights)


def test_the_tokenizer_can_be_trained_anew(model_script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(EXAMPLES / "dialogues.jsonl", model_script.HERE)
    monkeypatch.setattr(model_script, "write_weights", lambda: model_script.WEIGHTS.touch())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model_script.MODEL / name).unlink()
    model_script.main(["--tokenizer"])
    tokenizer = AutoTokenizer.from_pretrained(model_script.MODEL, local_files_only=True)
    assert tokenizer.get_vocab() == AutoTokenizer.from_pretrained(TINY_LLAMA, local_files_only=True).get_vocab()

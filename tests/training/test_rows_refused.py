"""Whatever tokenizer, template or model make of a row is the user's to mend: file, row, their sentence, what to do."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
from tokenizers.normalizers import Replace
from transformers import PreTrainedTokenizerBase

from autofit.probing.protocol import Refused, Survey, Surveyed
from autofit.worker.data.row_tokens import RowTokenizer
from autofit.worker.training import survey
from tests.builders import make_request
from tests.training.rows import MODEL, model_with, plain_tokenizer, tokenizer_with, write

STRICT = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    "{{ '<turn>' + m['role'] + '\n' + m['content'] + '</turn>\n' }}{% endfor %}"
)
GOOD = {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Ravi."}]}
BAD = {"messages": [{"role": "system", "content": "Be terse."}, *GOOD["messages"]]}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def strict(tmp_path: Path) -> str:
    """A model whose template refuses a system turn."""
    return model_with(tokenizer_with(STRICT), tmp_path / "strict")


def refusal(model: str, data: str, eval_data: str | None = None, extra: tuple[str, ...] = ()) -> str:
    said = survey.run(Survey(make_request(model, data=data, eval_data=eval_data, extra=extra), "log"))
    assert isinstance(said, Refused)
    return said.message


def test_a_template_that_refuses_a_row_is_quoted_with_the_rows_line(strict: str) -> None:
    Path("d.jsonl").write_text(f"{json.dumps(GOOD)}\n\n{json.dumps(BAD)}\n")
    said = refusal(strict, "d.jsonl")
    assert said.startswith("d.jsonl, line 3: the tokenizer or its chat template refuses it (no system turns).")
    assert "Nothing was started. Change the row or leave it out" in said
    assert "--chat_template_path" in said


def test_evaluation_data_is_blamed_in_its_own_name(strict: str) -> None:
    said = refusal(strict, write("d.jsonl", GOOD), write("e.jsonl", GOOD, GOOD, BAD))
    assert said.startswith("e.jsonl, line 3: ")


@pytest.mark.parametrize("name", ["d.parquet", "d.csv"])
def test_rows_of_every_kind_of_file_are_named(strict: str, name: str) -> None:
    table = datasets.Dataset.from_dict({"messages": [json.dumps(GOOD["messages"]), json.dumps(BAD["messages"])]})
    (table.to_parquet if name.endswith("parquet") else table.to_csv)(name)
    assert refusal(strict, name).startswith({"d.parquet": "d.parquet: row 2: ", "d.csv": "d.csv, line 3: "}[name])


def test_half_a_character_is_named_with_its_place() -> None:
    Path("d.jsonl").write_text('{"text": "whole"}\n{"text": "half \\ud83d"}\n')
    said = refusal(str(MODEL), "d.jsonl")
    assert said.startswith("d.jsonl, line 2: text holds half a character ('\\ud83d' at 6)")


@pytest.mark.parametrize("error", [KeyError("token"), RecursionError("too deep"), ZeroDivisionError()], ids=repr)
def test_whatever_a_tokenizer_raises_is_about_the_row(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(RowTokenizer, "_text", refuse)
    said = refusal(str(MODEL), write("d.jsonl", {"text": "a"}))
    assert said.startswith("d.jsonl, line 1: the tokenizer or its chat template refuses it (")
    assert (str(error) or type(error).__name__) in said


def test_a_tokenizer_without_an_end_is_told_what_it_lacks(tmp_path: Path) -> None:
    tokenizer = plain_tokenizer()
    tokenizer.eos_token = None
    model = model_with(tokenizer, tmp_path / "endless")
    data = write("d.jsonl", {"text": "a"})
    assert "has no end-of-sequence token" in refusal(model, data)
    asked = make_request(model, data=data, extra=("--eos_token", "</s>"))
    assert isinstance(survey.run(Survey(asked, "log")), Surveyed)
    assert "--eos_token <stop> is no token" in refusal(model, data, extra=("--eos_token", "<stop>"))


def test_a_tokenizer_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    model = Path(model_with(plain_tokenizer(), tmp_path / "broken"))
    (model / "tokenizer.json").write_text("{}")
    assert refusal(str(model), write("d.jsonl", {"text": "a"})).startswith(f"the tokenizer of {model} cannot be loaded")


def _with_two_more_tokens() -> PreTrainedTokenizerBase:
    tokenizer = plain_tokenizer()
    tokenizer.add_tokens(["<|a|>", "<|b|>"], special_tokens=True)
    return tokenizer


def test_a_token_beyond_the_embedding_is_refused_with_both_sizes(tmp_path: Path) -> None:
    tokenizer = _with_two_more_tokens()
    model = Path(model_with(tokenizer, tmp_path / "big"))
    config = json.loads((model / "config.json").read_text())
    size = len(tokenizer)
    (model / "config.json").write_text(json.dumps({**config, "vocab_size": size - 2}))
    said = refusal(str(model), write("d.jsonl", {"text": "plain"}, {"text": "a <|b|>"}))
    assert said.startswith(
        f"d.jsonl, line 2: token {size - 1:,} is beyond the model's embedding, which holds {size - 2:,}"
    )
    assert f"its tokenizer knows {size:,}" in said
    assert "Resize the embedding" in said
    plain = make_request(model, data=write("e.jsonl", {"text": "plain"}))
    assert isinstance(survey.run(Survey(plain, "log")), Surveyed)  # what no row uses does no harm


def test_a_padding_token_beyond_the_embedding_is_refused(tmp_path: Path) -> None:
    tokenizer = _with_two_more_tokens()
    tokenizer.pad_token = "<|b|>"
    model = Path(model_with(tokenizer, tmp_path / "padded"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "vocab_size": len(tokenizer) - 2}))
    data = write("d.jsonl", {"text": "a"})
    assert "the padding token <|b|>" in refusal(str(model), data)
    other = make_request(model, data=data, extra=("--pad_token", "</s>"))
    assert isinstance(survey.run(Survey(other, "log")), Surveyed)


def test_another_tokenizer_does_not_find_the_tokens_of_the_first(tmp_path: Path) -> None:
    """The tokens are cached, by all that they depend on."""
    data, other = write("d.jsonl", {"text": "a plant"}), plain_tokenizer()
    other.backend_tokenizer.normalizer = Replace("plant", "tree")
    lengths = [
        survey.run(Survey(make_request(model, data=data), "log"))
        for model in (str(MODEL), model_with(other, tmp_path / "other"), str(MODEL))
    ]
    first, second, third = (said.profile.longest_tokens for said in lengths if isinstance(said, Surveyed))
    assert first == third != second

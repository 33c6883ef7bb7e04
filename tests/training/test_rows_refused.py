"""Whatever tokenizer, template or model make of a row is the user's to mend: file, row, their sentence, what to do."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest
from tokenizers.normalizers import Replace
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerBase

from autofit.domain.errors import UsageError
from autofit.probing.protocol import Survey, Surveyed, SurveyRefused
from autofit.worker.data.row_tokens import RowTokenizer
from autofit.worker.data.training_data import training_data
from autofit.worker.model.description import describe
from autofit.worker.training import survey
from tests.builders import make_request
from tests.training.rows import IGNORED, MODEL, model_with, plain_tokenizer, tokenizer_with, write

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
    assert isinstance(said, SurveyRefused)
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
    assert refusal(str(model), write("d.jsonl", {"text": "a"})).startswith(
        f"{model / 'tokenizer.json'} is no tokenizer that the library tokenizers reads (Model missing."
    )


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
    assert f"model.resize_token_embeddings({size})" in said
    plain = make_request(model, data=write("e.jsonl", {"text": "plain"}))
    assert isinstance(survey.run(Survey(plain, "log")), Surveyed)  # what no row uses does no harm


def narrow(tokenizer: PreTrainedTokenizerBase, folder: Path, **config: object) -> str:
    """A model whose embedding holds two tokens less than its tokenizer."""
    model = Path(model_with(tokenizer, folder))
    values = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**values, "vocab_size": len(tokenizer) - 2, **config}))
    return str(model)


def test_a_token_that_only_the_template_or_only_the_evaluation_data_uses_is_refused(tmp_path: Path) -> None:
    marks = tokenizer_with("{% for m in messages %}<|a|>{{ m['content'] }}<|b|>{% endfor %}")
    assert len(marks) == len(plain_tokenizer()) + 2
    said = refusal(narrow(marks, tmp_path / "marks"), write("d.jsonl", GOOD))
    assert said.startswith(f"d.jsonl, line 1: token {len(marks) - 1:,} is beyond the model's embedding")
    model = narrow(_with_two_more_tokens(), tmp_path / "plain")
    said = refusal(model, write("d.jsonl", {"text": "a"}), write("e.jsonl", {"text": "a"}, {"text": "<|a|>"}))
    assert said.startswith("e.jsonl, line 2: token ")


def test_tokens_that_no_tokenizer_of_the_model_made_are_refused_with_their_row() -> None:
    rows = [{"input_ids": [1, 5, 2]}, {"input_ids": [1, 5_000, 2]}]
    said = refusal(str(MODEL), write("d.jsonl", *rows))
    assert said.startswith("d.jsonl, line 2: token 5,000 is beyond the model's embedding, which holds 2,048")
    assert "with the model's own tokenizer" in said
    assert "resize" not in said
    label = {"input_ids": [1, 5, 2], "labels": [IGNORED, 5_000, 2]}
    assert refusal(str(MODEL), write("d.jsonl", rows[0], label)).startswith("d.jsonl, line 2: token 5,000")


def test_a_padding_token_of_the_config_that_no_embedding_can_have_is_refused(tmp_path: Path) -> None:
    model = narrow(_with_two_more_tokens(), tmp_path / "padded", pad_token_id=9_999)
    said = refusal(model, write("d.jsonl", {"text": "a"}))
    assert "pad_token_id 9,999 in the config" in said
    assert "beyond its embedding, which holds 1,330; set it to null" in said
    with pytest.raises(UsageError, match="pad_token_id 9,999 in the config"):
        describe(make_request(model))  # what is asked first of a model says no less


@pytest.mark.parametrize("is_tied", [False, True])
def test_weights_with_another_embedding_than_the_config_are_refused_with_both_sizes(
    is_tied: bool, tmp_path: Path
) -> None:
    model = Path(model_with(plain_tokenizer(), tmp_path / "grown"))
    config = AutoConfig.from_pretrained(model)
    config.update({"num_hidden_layers": 1, "tie_word_embeddings": is_tied})
    AutoModelForCausalLM.from_config(config).save_pretrained(model)
    data = write("d.jsonl", {"text": "a"})
    assert isinstance(survey.run(Survey(make_request(model, data=data), "log")), Surveyed)
    values = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**values, "vocab_size": values["vocab_size"] + 64}))
    said = refusal(str(model), data)
    assert "has an embedding of 1,394 tokens, and its weights hold 1,330; set vocab_size to 1330" in said


def test_an_end_of_text_that_config_and_tokenizer_do_not_share_is_noted(tmp_path: Path) -> None:
    model = Path(model_with(plain_tokenizer(), tmp_path / "other"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "eos_token_id": [70_000]}))
    said = survey.run(Survey(make_request(model, data=write("d.jsonl", {"text": "a"})), "log"))
    assert isinstance(said, Surveyed)
    assert any(
        "ends in token 70000 by the model's config, in 2 (</s>) by its tokenizer" in n for n in said.profile.notes
    )
    same = survey.run(Survey(make_request(MODEL, data="d.jsonl"), "log"))
    assert isinstance(same, Surveyed)
    assert not any("a text ends" in note for note in same.profile.notes)


MANY = 3_000
ODD = 2_749  # of the rows counted from 0


@pytest.mark.parametrize("is_evaluation", [False, True])
@pytest.mark.parametrize(
    ("odd", "what"),
    [
        ('{"messages": 3}', "messages is a number, not a list of turns"),
        ('{"other": 1}', "messages is null, not a list of turns"),
        ('{"messages": [{"role": "user", "content": null}]}', "messages[0].content is null, not text"),
        ("caf\xe9", "not UTF-8 text"),
        (json.dumps(BAD), "the tokenizer or its chat template refuses it (no system turns)"),
    ],
    ids=["type", "column", "content", "bytes", "template"],
)
def test_one_row_of_thousands_is_named_with_its_line(odd: str, what: str, is_evaluation: bool, strict: str) -> None:
    lines = [json.dumps(GOOD)] * MANY
    write("good.jsonl", GOOD)
    lines[ODD] = odd
    Path("many.jsonl").write_bytes("\n".join(lines).encode("latin-1"))
    said = refusal(strict, "good.jsonl", "many.jsonl") if is_evaluation else refusal(strict, "many.jsonl")
    assert said.startswith(f"many.jsonl, line 2,750: {what}")


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


@pytest.mark.parametrize("topics", [["a", "b"], [1, "a"]], ids=["read by datasets", "read line by line"])
def test_no_row_is_tokenized_a_second_time(topics: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, topic in zip("de", topics, strict=True):
        write(f"{name}.jsonl", {"text": "a plant", "topic": topic})
    asked = make_request(MODEL, data="*.jsonl")
    first = training_data(asked).train[:]

    def refuse(*_: object) -> None:
        raise AssertionError("tokenized again")

    monkeypatch.setattr(RowTokenizer, "__call__", refuse)
    assert training_data(asked).train[:] == first
    write("d.jsonl", {"text": "other"})
    with pytest.raises(UsageError, match="tokenized again"):
        training_data(asked)


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

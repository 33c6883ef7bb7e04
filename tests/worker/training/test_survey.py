"""What the survey says of data: the same rows and lengths as every rank of the training will see."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import datasets
import jinja2
import pytest
from transformers import AutoTokenizer

from autofit.domain.errors import InternalError, UsageError
from autofit.domain.request import Request, Training
from autofit.domain.workload import DataProfile
from autofit.probing.protocol import Refused, Survey, Surveyed
from autofit.worker.data.training_data import training_data
from autofit.worker.training import survey, surveyed_rows
from tests.builders import make_request

MODEL = Path(__file__).parents[3] / "examples/tiny-llama"
TOKENIZER = AutoTokenizer.from_pretrained(MODEL)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def write(name: str, *rows: dict[str, object]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def texts(name: str, count: int) -> str:
    return write(name, *({"text": f"row {n}"} for n in range(count)))


def request(data: str | None = None, tokens: int = 64, extra: tuple[str, ...] = ()) -> Request:
    return make_request(MODEL, tokens, data=data, extra=extra)


def answer(asked: Request) -> Surveyed | Refused:
    return survey.run(Survey(asked, "log"))


def profile(asked: Request) -> DataProfile:
    said = answer(asked)
    assert isinstance(said, Surveyed), said
    return said.profile


def refusal(asked: Request) -> str:
    said = answer(asked)
    assert isinstance(said, Refused)
    assert "\n" not in said.message
    return said.message


def test_a_share_is_kept_for_evaluation_the_same_one_on_every_rank() -> None:
    asked = replace(request(texts("d.jsonl", 40)), eval_fraction=0.25)
    data, again = training_data(asked), training_data(asked)
    other = training_data(replace(asked, training=Training(seed=7)))
    assert data.evaluation is not None
    assert again.evaluation is not None
    assert other.evaluation is not None
    assert len(data.evaluation) == 10
    words = [TOKENIZER.decode(ids) for ids in data.train["input_ids"][:] + data.evaluation["input_ids"][:]]
    assert sorted(words) == sorted(f"<s>row {n}</s>" for n in range(40))
    assert (again.train.to_list(), again.evaluation.to_list()) == (data.train.to_list(), data.evaluation.to_list())
    assert other.evaluation.to_list() != data.evaluation.to_list()


def test_evaluation_data_of_its_own_leaves_the_training_whole() -> None:
    asked = replace(request(texts("d.jsonl", 5)), eval_data=texts("e.jsonl", 3), eval_fraction=0.5)
    data = training_data(asked)
    assert (len(data.train), len(data.evaluation or [])) == (5, 3)
    seen = profile(asked)
    assert (seen.example_count, seen.eval_example_count) == (5, 3)


def test_the_longest_row_may_be_one_of_the_evaluation() -> None:
    short, long = write("d.jsonl", {"text": "a"}), write("e.jsonl", {"text": "one two three " * 5})
    seen = profile(replace(request(short, tokens=32), eval_data=long))
    assert seen.longest_tokens > seen.sampled_lengths_tokens[-1]


def test_evaluation_data_without_a_token_to_score_is_refused() -> None:
    """Its prompts alone are longer than the sequence."""
    pair = {"prompt": "Ravi: I forgot a plant.\n\nSummary:\n", "completion": "Ravi forgot a plant."}
    long = write("e.jsonl", {**pair, "prompt": pair["prompt"] * 20})
    refused = refusal(replace(request(write("d.jsonl", pair)), eval_data=long))
    assert "e.jsonl: all that is learned lies beyond 64 tokens, in every row" in refused


def test_evaluation_data_of_another_form_is_refused_by_both_names() -> None:
    write("pairs.jsonl", {"prompt": "a", "completion": "b"})
    asked = replace(request(texts("d.jsonl", 5)), eval_data="pairs.jsonl")
    with pytest.raises(UsageError, match=r"pairs\.jsonl holds prompt.completion data and d\.jsonl text data"):
        training_data(asked)
    assert "same form" in refusal(asked)


def test_without_data_the_sample_is_used_and_said_to_be() -> None:
    data = training_data(request(tokens=512))
    assert len(data.train) == 400
    assert "no --data given" in " ".join(data.notes)
    assert "no --data given" not in " ".join(training_data(request(texts("d.jsonl", 5))).notes)


def test_lengths_are_those_of_the_models_tokenizer_cut_at_the_sequence_length() -> None:
    rows = ["a", "Ravi forgot a plant at the station.", "one two three four five six seven " * 10]
    seen = profile(request(write("d.jsonl", *({"text": row} for row in rows)), tokens=32))
    tokens = [len(TOKENIZER(row)["input_ids"]) + 1 for row in rows]  # the end of the text is a token too
    assert tokens[0] < tokens[1] < 32 < tokens[2]
    assert seen.sampled_lengths_tokens == (tokens[0], tokens[1], 32)
    assert seen.longest_tokens == 32
    assert (seen.source, seen.data_format, seen.example_count) == ("d.jsonl", "text", 3)


def test_a_prompt_and_its_completion_are_one_row() -> None:
    row = {"prompt": "Ravi: I forgot a plant.\n\nSummary:\n", "completion": "Ravi forgot a plant."}
    seen = profile(request(write("d.jsonl", row)))
    together = TOKENIZER(row["prompt"] + row["completion"])["input_ids"]
    assert abs(seen.longest_tokens - len(together) - 1) <= 1  # the seam may be written in a token more


def test_a_chat_gets_a_template_where_the_tokenizer_has_none_and_that_is_noted() -> None:
    turns = [{"role": "user", "content": "Who forgot it?"}, {"role": "assistant", "content": "Ravi."}]
    seen = profile(request(write("d.jsonl", {"messages": turns})))
    assert seen.data_format == "messages"
    assert any("no chat template" in note for note in seen.notes)
    words = sum(len(TOKENIZER(turn["content"])["input_ids"]) for turn in turns)
    assert words < seen.longest_tokens < words + 40


def test_packed_rows_are_as_long_as_the_training_sees_them() -> None:
    name = texts("d.jsonl", 60)
    apart, packed = profile(request(name)), profile(request(name, extra=("--packing", "true")))
    assert 4 * apart.longest_tokens < packed.longest_tokens <= 64
    assert apart.longest_tokens < 16
    assert packed.example_count < 60 / 3
    assert sum(packed.sampled_lengths_tokens) == sum(apart.sampled_lengths_tokens)


def test_of_much_data_a_sample_is_tokenized_and_the_longest_row_is_always_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(surveyed_rows, "SAMPLE_ROWS", 20)
    rows = [{"text": "short"} for _ in range(200)]
    rows[137] = {"text": "long " * 40}
    seen = profile(request(write("d.jsonl", *rows)))
    assert len(seen.sampled_lengths_tokens) == 20
    assert seen.longest_tokens == len(TOKENIZER("long " * 40)["input_ids"]) + 1
    assert seen.example_count == 200


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (request("missing.jsonl"), "missing.jsonl"),
        (request(extra=("--warmup_step", "1")), "did you mean --warmup_steps"),
        (request(extra=("--lr_scheduler_type", "sideways")), "sideways"),
        (request(extra=("--optim", "adafactor")), "--optim adafactor would be another algorithm"),
        (replace(request(), model="."), ""),
    ],
    ids=["no file", "no such argument", "no such value", "another algorithm", "no tokenizer"],
)
def test_what_cannot_start_is_refused_in_one_sentence(asked: Request, told: str) -> None:
    message = refusal(asked)
    assert told in message
    assert 10 < len(message) <= 500


def test_what_a_chat_template_refuses_is_shown_wherever_it_is_first_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise jinja2.TemplateError("roles must alternate")

    monkeypatch.setattr(survey, "check_rewards", refuse)
    assert refusal(request(texts("a.jsonl", 4))).startswith("TemplateError: roles must alternate (")


def test_our_own_bug_in_the_survey_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise InternalError("no such phase")

    monkeypatch.setattr(survey, "check_rewards", fail)
    with pytest.raises(InternalError):
        answer(request(texts("a.jsonl", 4)))

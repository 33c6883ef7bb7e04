"""Rows that are too long are counted before anything starts, as the trainer will cut and drop them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from autofit.domain.errors import UsageError
from autofit.domain.request import Request
from autofit.domain.workload import DataProfile, RowCounts
from autofit.planning.data.truncation import check_lost_rows
from autofit.probing.protocol import Survey, Surveyed, SurveyRefused
from autofit.worker.data.training_data import training_data
from autofit.worker.training import survey
from tests.builders import make_request
from tests.training.rows import IGNORED, MODEL, by_trl, plain_tokenizer, write

LONG = "Ravi: I forgot a plant at the station. " * 8
PAIRS = [
    {"prompt": "Who?\n", "completion": "Ravi."},
    {"prompt": "Who?\n", "completion": "Ravi forgot it. " * 20},  # loses a part of its answer
    {"prompt": LONG, "completion": "Ravi."},  # loses all of it
    {"prompt": "Who?\n", "completion": " "},  # has none
]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def request(*rows: dict[str, Any], **asked: Any) -> Request:
    return make_request(MODEL, data=write("d.jsonl", *rows), **asked)


def profile(asked: Request) -> DataProfile:
    said = survey.run(Survey(asked, "log"))
    assert isinstance(said, Surveyed), said
    return said.profile


def refusal(asked: Request) -> str:
    said = survey.run(Survey(asked, "log"))
    assert isinstance(said, SurveyRefused)
    return said.message


def test_what_is_counted_is_what_trl_cuts_and_drops() -> None:
    asked = request(*PAIRS)
    seen = profile(asked)
    assert seen.rows is not None
    assert (seen.rows.total, seen.rows.empty, seen.rows.dropped) == (4, 1, 1)
    assert (seen.rows.cut, seen.rows.cut_answers) == (1, 1)
    theirs = by_trl(PAIRS[:3], plain_tokenizer(), max_length=64)
    ours = by_trl(list(training_data(asked).train), plain_tokenizer(), max_length=64)
    assert ours == theirs
    assert seen.example_count == len(theirs) == 2
    assert seen.sampled_lengths_tokens == tuple(sorted(len(row["input_ids"]) for row in theirs))


def test_of_the_shipped_example_as_many_rows_are_lost_as_trl_drops() -> None:
    rows = [json.loads(line) for line in (MODEL.parent / "dialogues.jsonl").read_text().splitlines()]
    asked = request(*rows)
    seen = profile(asked)
    assert seen.rows is not None
    assert seen.rows.total - seen.rows.dropped == len(by_trl(rows, plain_tokenizer(), max_length=64)) == 222
    with pytest.raises(UsageError, match=r"178 of 400 rows(.|\n)*--seq 96 keeps enough of them; --allow-drop"):
        check_lost_rows(asked, seen)


def test_the_sequence_length_that_is_proposed_keeps_enough() -> None:
    asked = request(*PAIRS[:3])
    with pytest.raises(UsageError, match=r"d\.jsonl: 1 of 3 rows would not be trained on .* lies beyond --seq 64"):
        check_lost_rows(asked, profile(asked))
    counts = profile(asked).rows
    assert counts is not None
    assert counts.enough_tokens is not None
    longer = request(*PAIRS[:3], tokens=counts.enough_tokens)
    check_lost_rows(longer, profile(longer))
    shorter = request(*PAIRS[:3], tokens=counts.enough_tokens - 8)
    with pytest.raises(UsageError, match=f"--seq {counts.enough_tokens} keeps enough"):
        check_lost_rows(shorter, profile(shorter))
    allowed = request(*PAIRS[:3], allowed_drop=0.34)
    check_lost_rows(allowed, profile(allowed))


def test_chats_whose_answers_lie_beyond_the_sequence_count_as_dropped() -> None:
    turns = [{"role": "user", "content": LONG}, {"role": "assistant", "content": "Ravi."}]
    short = [{"role": "user", "content": "Who?"}, turns[1]]
    seen = profile(request({"messages": turns}, {"messages": short}))
    assert seen.rows is not None
    assert (seen.rows.total, seen.rows.dropped, seen.example_count) == (2, 1, 1)
    said = refusal(request({"messages": turns}))
    assert "d.jsonl: all that is learned lies beyond 64 tokens, in every row" in said
    assert "--seq " in said


def test_rows_with_nothing_to_learn_from_are_counted() -> None:
    seen = profile(request({"text": ""}, {"text": "a"}, {"text": " "}))
    assert seen.rows is not None
    assert (seen.rows.total, seen.rows.empty, seen.example_count) == (3, 2, 1)
    assert "row 1 is the first that holds nothing to learn from" in seen.notes
    assert "no row has a text or an answer to learn from" in refusal(request({"text": ""}))


def test_the_first_rows_that_are_lost_are_named() -> None:
    seen = profile(request(PAIRS[0], PAIRS[1], PAIRS[2], PAIRS[3], PAIRS[2], eval_data=write("e.jsonl", *PAIRS[:3])))
    assert "row 4 is the first that holds nothing to learn from" in seen.notes
    assert "row 3 is the first that learns only what lies beyond --seq" in seen.notes
    assert "evaluation: row 3 is the first that learns only what lies beyond --seq" in seen.notes
    assert not any("is the first that" in note for note in profile(request(*PAIRS[:2])).notes)


def test_evaluation_data_is_counted_and_checked_too() -> None:
    asked = request(PAIRS[0], eval_data=write("e.jsonl", *PAIRS[:3]))
    seen = profile(asked)
    assert seen.rows == RowCounts(total=1, enough_tokens=seen.rows.enough_tokens if seen.rows else None)
    assert seen.eval_rows is not None
    assert (seen.eval_rows.dropped, seen.eval_example_count) == (1, 2)
    with pytest.raises(UsageError, match=r"e\.jsonl: 1 of 3 rows"):
        check_lost_rows(asked, seen)
    said = refusal(request(PAIRS[0], eval_data=write("e.jsonl", PAIRS[2])))
    assert said.startswith("e.jsonl: all that is learned lies beyond")


def test_rows_that_are_cut_from_their_end_keep_their_answers() -> None:
    seen = profile(request(*PAIRS[:3], extra=("--truncation_mode", "keep_end")))
    assert seen.rows is not None
    assert (seen.rows.dropped, seen.rows.cut, seen.rows.cut_answers) == (0, 2, 1)
    assert seen.example_count == 3


@pytest.mark.parametrize(("strategy", "dropped"), [("bfd", 1), ("bfd_split", 0), ("wrapped", 0)])
def test_packing_that_divides_rows_loses_none(strategy: str, dropped: int) -> None:
    seen = profile(request(*PAIRS[:3], extra=("--packing", "true", "--packing_strategy", strategy)))
    assert seen.rows is not None
    assert seen.rows.dropped == dropped
    assert seen.longest_tokens <= 64


def test_a_share_for_evaluation_is_taken_of_the_rows_that_are_left() -> None:
    rows = [{"prompt": f"Who {n}?\n", "completion": "Ravi."} for n in range(8)]
    data = training_data(request(*rows, PAIRS[2], PAIRS[3], eval_fraction=0.25))
    assert data.evaluation is not None
    assert (len(data.train), len(data.evaluation)) == (6, 2)
    assert all(any(label != IGNORED for label in labels) for labels in data.evaluation["labels"])

"""What a dry run finds wrong with data and arguments, without reading all of them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autofit.probing.protocol import CheckInputs, InputsChecked, Refused
from autofit.worker.training import input_check
from tests.builders import make_request

MODEL = Path(__file__).parents[3] / "examples/tiny-llama"
GOOD = '{"text": "a"}\n'


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def answer(data: str | None = None, eval_data: str | None = None, extra: tuple[str, ...] = ()) -> str | None:
    said = input_check.run(CheckInputs(make_request(MODEL, 64, data=data, eval_data=eval_data, extra=extra), "log"))
    if isinstance(said, Refused):
        return said.message
    assert isinstance(said, InputsChecked)
    return None


def test_what_is_good_passes() -> None:
    Path("d.jsonl").write_text(GOOD)
    pq.write_table(pa.table({"text": ["a"]}), "d.parquet")
    assert answer("d.jsonl", "d.parquet", ("--weight_decay", "0.1")) is None


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "d.jsonl: empty"),
        ('{"txt": "a"}\n', "d.jsonl: cannot train on the columns txt."),
        (GOOD + '{"text": 5}\n', "d.jsonl, line 2: text is a number, not text"),
        (GOOD + "{\n", "d.jsonl, line 2: not JSON"),
        (
            GOOD + '{"prompt": "a", "completion": "b"}\n',
            "d.jsonl, line 2: prompt/completion data, and d.jsonl, line 1 has text data",
        ),
    ],
)
def test_the_first_rows_are_looked_at(content: str, sentence: str) -> None:
    Path("d.jsonl").write_text(content)
    Path("good.jsonl").write_text(GOOD)
    for said in (answer("d.jsonl"), answer("good.jsonl", "d.jsonl")):
        assert said is not None
        assert said.startswith(sentence)


def test_only_the_first_rows_are_looked_at() -> None:
    Path("d.jsonl").write_text(GOOD * 200 + "{\n")
    assert answer("d.jsonl") is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--weight_dcay", "1"), "there is no training argument --weight_dcay; did you mean --weight_decay?"),
        (("--weight_decay", "x"), "invalid float value: 'x'"),
        (("--load_best_model_at_end", "true"), "training argument"),
    ],
)
def test_the_words_behind_the_dashes_are_looked_at(words: tuple[str, ...], sentence: str) -> None:
    assert sentence in (answer(extra=words) or "")


def test_a_row_of_json_text_is_no_fault() -> None:
    Path("d.jsonl").write_text(json.dumps({"messages": json.dumps([{"role": "user", "content": "a"}])}) + "\n")
    assert answer("d.jsonl") is None

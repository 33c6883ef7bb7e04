"""Files of every kind load into few columns, and broken ones are refused with the place of the fault."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import datasets
import huggingface_hub
import pytest
from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError

from autofit.domain.errors import UsageError
from autofit.planning.data.chat_turns import turn
from autofit.planning.data.columns import Format
from autofit.worker.data import raw_table
from autofit.worker.data.loaded_data import load, split_eval

GOOD = '{"prompt": "a", "completion": "b"}\n'
ROWS = [{"prompt": f"question {i}", "completion": f"answer {i}"} for i in range(10)]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache, and none asks the hub."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)


def refusal(source: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(source)
    return str(caught.value)


def write(name: str, content: str | bytes) -> str:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def _json_lines(name: str) -> None:
    write(name, "".join(json.dumps(row) + "\n" for row in ROWS))


@pytest.mark.parametrize("name", ["d.jsonl", "d.ndjson", "lines.json", "array.json", "d.csv", "d.parquet"])
def test_each_kind_of_file_loads(name: str) -> None:
    if name.startswith("array"):
        write(name, json.dumps(ROWS, indent=1))
    elif name.endswith("csv"):
        write(name, "prompt,completion\n" + "".join(f"{row['prompt']},{row['completion']}\n" for row in ROWS))
    elif name.endswith("parquet"):
        datasets.Dataset.from_list(ROWS).to_parquet(name)
    else:
        _json_lines(name)
    loaded = load(name)
    assert loaded.dataset.to_list() == ROWS
    assert (loaded.data_format, loaded.source, loaded.notes) == (Format.PROMPT_COMPLETION, name, ())


def test_the_sample_ships() -> None:
    loaded = load(None)
    assert loaded.data_format is Format.PROMPT_COMPLETION
    assert len(loaded.dataset) == 400
    assert "sample" in loaded.source


def test_a_glob_takes_the_files_in_order() -> None:
    write("b.jsonl", GOOD.replace('"a"', '"second"'))
    write("a.jsonl", GOOD.replace('"a"', '"first"'))
    assert load("*.jsonl").dataset["prompt"][:] == ["first", "second"]


def test_a_folder_leaves_out_what_is_held_out_by_its_name() -> None:
    Path("chats").mkdir()
    for name in ("latest-chats", "chats-eval", "test"):  # "latest" is not "test"
        write(f"chats/{name}.jsonl", GOOD.replace('"a"', f'"{name}"'))
    loaded = load("chats")
    assert loaded.dataset["prompt"][:] == ["latest-chats"]
    assert "chats-eval.jsonl, test.jsonl" in loaded.notes[0]


def test_a_folder_of_two_kinds_is_refused() -> None:
    Path("mixed").mkdir()
    write("mixed/a.jsonl", GOOD)
    write("mixed/b.csv", "text\nx\n")
    assert "csv and json" in refusal("mixed")


def test_turns_become_messages_of_one_spelling() -> None:
    turns = [{"from": "human", "value": "Hi", "id": 7}, {"from": "gpt", "value": "Hello", "weight": None, "id": None}]
    loaded = load(write("d.json", json.dumps([{"conversations": turns}, {"conversations": turns}])))
    assert loaded.data_format is Format.SHAREGPT
    assert loaded.data_format.is_conversational
    assert loaded.dataset[1]["messages"] == [turn("user", "Hi"), turn("assistant", "Hello")]
    assert loaded.notes == ("not heard of the turns: id (first in row 1)",)


def test_token_ids_stay_token_ids() -> None:
    loaded = load(write("d.jsonl", '{"input_ids": [1, 2, 3], "attention_mask": [1, 1, 1]}\n'))
    assert loaded.data_format is Format.PRETOKENIZED
    assert loaded.dataset.to_list() == [{"input_ids": [1, 2, 3], "labels": [1, 2, 3]}]


def test_columns_that_are_not_used_are_noted() -> None:
    loaded = load(write("d.jsonl", '{"id": 7, "text": "a", "topic": "b"}\n'))
    assert loaded.dataset.column_names == ["text"]
    assert loaded.notes == ("columns not used: id, topic",)


def test_dates_stay_as_they_are_written() -> None:
    loaded = load(write("d.jsonl", '{"text": "2020-01-02T03:04:05"}\n{"text": "2021-01-02"}\n'))
    assert loaded.dataset["text"][:] == ["2020-01-02T03:04:05", "2021-01-02"]


def test_csv_fields_stay_text() -> None:
    loaded = load(write("d.csv", "\ufeffprompt;completion\none;1\nnone;NA\ntwo;007\n"))
    assert loaded.dataset["completion"][:] == ["1", "NA", "007"]


def test_columns_of_an_agents_log_do_not_mislead() -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    row = {"id": "1", "source": "x", "model": "y", "system_prompt": "z", "messages": turns}
    loaded = load(write("d.jsonl", json.dumps(row) + "\n"))
    assert loaded.dataset[0]["messages"] == [turn("system", "z"), turn("user", "Hi"), turn("assistant", "Hello")]
    assert loaded.notes == ("columns not used: id, source, model",)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("d.jsonl", GOOD * 3 + '{"prompt": "a\n' + GOOD, "d.jsonl, line 4: not JSON (unterminated string)"),
        ("d.jsonl", GOOD * 1204 + "\n" + GOOD[:-2] + "\n", "d.jsonl, line 1,206: not JSON (expecting ',' delimiter)"),
        ("d.jsonl", GOOD + '"a"\n', "d.jsonl, line 2: text, not an object with named columns"),
        ("d.jsonl", GOOD + "\n" + GOOD.replace('"a"', "null"), "d.jsonl, line 3: prompt is null, not text"),
        ("d.jsonl", GOOD + '{"prompt": "a"}\n', "d.jsonl, line 2: completion is null, not text"),
        ("d.jsonl", GOOD + GOOD.replace('"a"', "3"), "d.jsonl, line 2: prompt is a number, not text"),
        ("d.jsonl", GOOD.replace('"a"', "3") * 2, "d.jsonl, line 1: prompt is a number, not text"),
        ("d.jsonl", GOOD.replace("completion", "prompt"), "d.jsonl, line 1: has 'prompt' twice"),
        ("d.jsonl", GOOD.encode() + b'{"prompt": "caf\xe9", "completion": "b"}\n', "d.jsonl, line 2: not UTF-8 text"),
        ("d.json", f"[{GOOD},\n{GOOD}", "d.json, line 4: not JSON (expecting ',' delimiter)"),
        ("d.json", f"[{GOOD},\n" + GOOD.replace('"b"', "[1]") + "]", "d.json, row 2: completion is a list, not text"),
        (
            "d.csv",
            'prompt,completion\n"a\nb",c\nd,e,f\n',
            "d.csv, line 4: the header names 2 columns, this line",
        ),
        ("d.csv", "prompt,completion\na,b,c\nd,e,f\n", "d.csv, line 2: the header names 2 columns, this line holds 3"),
        ("d.csv", "prompt,completion\na,b\nc\n", "d.csv, line 3: the header names 2 columns, this line holds 1"),
        ("d.csv", "prompt,completion\na,b\nc,\n", "d.csv, line 3: completion is null, not text"),
        ("d.csv", 'prompt,completion\na,b\n"c,d\n', "d.csv, line 3: not CSV"),
        ("d.csv", "text,text\na,b\n", "d.csv, line 1: names the column 'text' twice"),
        ("d.parquet", "PAR0", "d.parquet: not readable as Parquet"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(name: str, content: str | bytes, sentence: str) -> None:
    message = refusal(write(name, content))
    assert message.startswith(sentence)
    assert "Nothing was started." in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["d.jsonl", "d.json", "d.csv"])
@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_called_empty(name: str, content: str) -> None:
    assert refusal(write(name, content)).startswith(f"{name}: empty")


def test_a_row_of_a_parquet_file_is_named() -> None:
    datasets.Dataset.from_dict({"text": ["a", "b", None]}).to_parquet("d.parquet")
    assert refusal("d.parquet").startswith("d.parquet: row 3: text is null, not text")


def test_a_column_that_nobody_reads_may_change_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise datasets.exceptions.DatasetGenerationError("column id changed its type")

    monkeypatch.setattr(datasets, "load_dataset", stumble)
    loaded = load(write("d.jsonl", '{"id": 1, "text": "a"}\n{"id": "x", "text": "b"}\n'))
    assert loaded.dataset.to_list() == [{"text": "a"}, {"text": "b"}]


def test_a_full_disk_is_not_blamed_on_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_: object, **__: object) -> None:
        raise datasets.exceptions.DatasetGenerationError("failed") from OSError(28, "No space left on device")

    monkeypatch.setattr(datasets, "load_dataset", stumble)
    assert "No space left on device" in refusal(write("d.jsonl", GOOD))


def test_unknown_columns_are_refused_with_the_files_name() -> None:
    message = refusal(write("d.jsonl", '{"id": 1, "body": "a"}\n'))
    assert message.startswith("d.jsonl: cannot train on the columns id, body.\n")


@pytest.mark.parametrize("source", ["missing.jsonl", "./missing", "no such thing", "*.jsonl", "folder"])
def test_what_is_not_there_is_not_sought_on_the_hub(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("folder").mkdir()
    monkeypatch.delattr(raw_table, "read_hub")
    assert refusal(source).startswith(f"{source}: ")


def test_an_offline_hub_is_one_sentence() -> None:
    assert refusal("someone/chats") == "someone/chats: no such file or folder here, and the hub cannot be reached."


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (DatasetNotFoundError("Dataset 'x/y' doesn't exist on the Hub"), "no such data set on the hub"),
        (DatasetNotFoundError("Dataset 'x/y' is a gated dataset on the Hub."), "accept its terms"),
        (DataFilesNotFoundError("No (supported) data files found in x/y"), "No (supported) data files"),
        (ValueError("Unknown split \"train\". Should be one of ['test']."), 'Unknown split "train"'),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(error: Exception, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    message = refusal("x/y")
    assert message.startswith("x/y: ")
    assert sentence in message
    assert "\n" not in message


def test_a_hub_id_may_name_its_config(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(name: str, config: str | None, split: str) -> datasets.Dataset:
        return datasets.Dataset.from_dict({"text": [f"{name} {config} {split}", "x"], "id": [1, 2]})

    monkeypatch.setattr(datasets, "load_dataset", answer)
    loaded = load("someone/chats:small")
    assert loaded.dataset["text"][0] == "someone/chats small train"
    assert loaded.source == "someone/chats:small"


def test_a_share_is_kept_for_evaluation_the_same_each_time() -> None:
    data = datasets.Dataset.from_list(ROWS)
    train, evaluation = split_eval(data, 0.2, seed=1)
    again, other = split_eval(data, 0.2, seed=1)[1], split_eval(data, 0.2, seed=2)[1]
    assert evaluation is not None
    assert (len(train), len(evaluation)) == (8, 2)
    assert not set(train["prompt"]) & set(evaluation["prompt"])
    assert evaluation.to_list() == again.to_list() != other.to_list()


def test_the_edges_of_the_evaluation_share() -> None:
    data = datasets.Dataset.from_list(ROWS)
    assert split_eval(data, 0.0, seed=1) == (data, None)
    assert len(split_eval(data, 0.001, seed=1)[1]) == 1
    for fraction in (-0.1, 1.0):
        with pytest.raises(UsageError, match="less than 1"):
            split_eval(data, fraction, seed=1)
    with pytest.raises(UsageError, match="too few"):
        split_eval(data.select([0]), 0.5, seed=1)


@pytest.mark.parametrize("name", ["D.JSONL", "d.jsonl.gz", "d.jsonl.zst", "d.csv.gz", "d.Csv"])
def test_endings_in_any_case_and_packed_files_are_read(name: str) -> None:
    content = b"prompt,completion\nq,a\n" if "csv" in name.lower() else b'{"prompt": "q", "completion": "a"}\n'
    if name.endswith("gz"):
        content = gzip.compress(content)
    if name.endswith("zst"):
        content = pytest.importorskip("zstandard").compress(content)
    write(name, content)
    assert load(name).dataset.to_list() == [{"prompt": "q", "completion": "a"}]


def test_without_its_package_a_zst_file_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    write("d.jsonl.zst", b"")
    assert refusal("d.jsonl.zst") == "d.jsonl.zst: the package zstandard unpacks it: pip install zstandard."


@pytest.mark.parametrize("name", ["d.jsonl.gz", "d.csv.gz"])
def test_a_packed_file_that_is_cut_off(name: str) -> None:
    packed = gzip.compress(b"prompt,completion\n" + b"q,a\n" * 999 if "csv" in name else GOOD.encode() * 999)
    write(name, packed[:-9])
    assert refusal(name).startswith(f"{name}: not whole, or packed otherwise than its name says")


def test_a_folder_in_a_folder_is_read_and_what_is_held_out_is_said() -> None:
    for name in ("d/a.jsonl", "d/more/b.jsonl", "d/test/c.jsonl"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        write(name, GOOD.replace('"a"', f'"{name}"'))
    loaded = load("d")
    assert loaded.dataset["prompt"][:] == ["d/a.jsonl", "d/more/b.jsonl"]
    assert loaded.notes == ("test/c.jsonl not trained on: held out, by the name",)


def test_a_parquet_file_of_no_rows_is_empty_and_passed_over_beside_others() -> None:
    none = datasets.Dataset.from_dict({"text": []}, features=datasets.Features({"text": datasets.Value("string")}))
    Path("d").mkdir()
    none.to_parquet("d/a.parquet")
    assert refusal("d/a.parquet").startswith("d/a.parquet: empty.")
    datasets.Dataset.from_dict({"text": ["t"]}).to_parquet("d/b.parquet")
    assert load("d").dataset["text"][:] == ["t"]


def test_of_two_forms_in_a_file_the_row_where_the_second_begins_is_named() -> None:
    write("d.jsonl", '{"text": "a"}\n{"text": "b"}\n' + GOOD)
    assert refusal("d.jsonl").startswith(
        "d.jsonl, line 3: prompt/completion data, and d.jsonl, line 1 has text data; all rows need one form."
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"[" * 100_000, "nested too deep to be read"),
        (b'{"text": ' + b"9" * 5000 + b"}", "not JSON (Exceeds the limit"),
        (b'{"text": "a\0"}', "not JSON (invalid control character)"),
        (b'{"text": "\\ud800"}', "text holds half a character"),
        (b'{"text": "\xff"}', "not UTF-8 text (byte 11)"),
    ],
)
def test_a_line_that_no_reader_expects(line: bytes, sentence: str) -> None:
    write("d.jsonl", b'{"text": "a"}\r\n' + line + b"\r\n")
    assert refusal("d.jsonl").startswith(f"d.jsonl, line 2: {sentence}")

"""The data of each task from a file: trl's own columns in a file that all ranks map, and broken rows by their line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from autofit.domain.errors import UsageError
from autofit.domain.request import Request
from autofit.domain.task import Task
from autofit.worker.data.loaded_data import load
from autofit.worker.data.refused_rows import check_templates
from autofit.worker.data.training_data import TrainingData, training_data
from autofit.worker.model.loading import load_tokenizer
from tests.builders import make_request

MODEL = Path(__file__).parents[3] / "examples/tiny-llama"
TASKS = [task for task in Task if task is not Task.SFT]
PAIR = {"prompt": "q", "chosen": "a", "rejected": "b"}
CHAT = {
    "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
    "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}],
}
JUDGED = {"prompt": "q", "completion": "a", "label": True}
ROWS = {Task.REWARD: PAIR, Task.DPO: PAIR, Task.KTO: JUDGED, Task.GRPO: {"prompt": "q", "answer": 4}}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def write(name: str, *rows: Any) -> str:
    Path(name).write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return name


def request(task: Task, data: str | None, **asked: Any) -> Request:
    return make_request(MODEL, task=task, data=data, **asked)


def read(task: Task, *rows: Any, **asked: Any) -> TrainingData:
    return training_data(request(task, write("d.jsonl", *rows), **asked))


def stumble(*_: object, **__: object) -> None:
    raise datasets.exceptions.DatasetGenerationError("column id changed its type")


@pytest.mark.parametrize("task", TASKS)
def test_the_trainer_gets_trls_columns_in_a_file(task: Task) -> None:
    row = ROWS[task]
    data = read(task, row, row, row, row, eval_fraction=0.25)
    assert data.evaluation is not None
    assert (data.train[0], data.evaluation[0]) == (row, row)
    assert (len(data.train), len(data.evaluation)) == (3, 1)
    assert data.train.cache_files
    assert data.evaluation.cache_files
    assert data.rows is None


@pytest.mark.parametrize("task", TASKS)
def test_rows_that_are_read_one_by_one_lie_in_a_file_too_and_the_same_one_each_time(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ROWS[task]
    monkeypatch.setattr(datasets, "load_dataset", stumble)
    first, again = read(task, row, row).train, read(task, row, row).train
    assert first.to_list() == [row, row]
    assert first.cache_files == again.cache_files != []
    assert first._fingerprint == again._fingerprint


@pytest.mark.parametrize("task", TASKS)
def test_the_sample_of_the_task_ships(task: Task) -> None:
    data = training_data(request(task, None))
    assert len(data.train) >= 100
    assert {*data.train.column_names} == {*ROWS[task]}
    assert "no --data given" in " ".join(data.notes)


def test_turns_stay_messages_and_what_they_leave_out_is_noted() -> None:
    thought = [CHAT["chosen"][0], {**CHAT["chosen"][1], "reasoning_content": "hm"}]
    data = read(Task.DPO, {**CHAT, "id": 7}, {**CHAT, "chosen": thought, "id": 8})
    assert data.train.to_list() == [CHAT, CHAT]
    assert "columns not used: id" in data.notes
    assert "not heard of the turns: reasoning_content (first in row 2)" in data.notes
    assert data.tokenizer.chat_template


@pytest.mark.parametrize(
    ("task", "row", "sentence"),
    [
        (Task.REWARD, {**PAIR, "rejected": None}, "d.jsonl, line 3: rejected is null, not text"),
        (Task.DPO, '{"prompt": "q', "d.jsonl, line 3: not JSON (unterminated string)"),
        (Task.DPO, {**PAIR, "chosen": ["a"]}, "d.jsonl, line 3: chosen is a list, not text"),
        (Task.KTO, {**JUDGED, "label": 2}, "d.jsonl, line 3: label is 2: an answer is good (true) or bad (false)"),
        (Task.KTO, {**JUDGED, "label": None}, "d.jsonl, line 3: label is null"),
        (Task.GRPO, {"prompt": 3, "answer": 4}, "d.jsonl, line 3: prompt is a number, not text"),
    ],
)
def test_a_broken_row_is_named_by_its_line(task: Task, row: Any, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(task, ROWS[task], ROWS[task], row)
    assert str(caught.value).startswith(sentence)
    assert "Nothing was started." in str(caught.value)


@pytest.mark.parametrize("is_stumbling", [False, True])
def test_a_column_for_the_rewards_may_hold_values_of_several_types(
    is_stumbling: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": "q", "answer": value} for value in (4, "four", [4])]
    if is_stumbling:
        monkeypatch.setattr(datasets, "load_dataset", stumble)
    assert read(Task.GRPO, *rows).train.to_list() == rows


def test_a_row_of_a_parquet_file_is_named() -> None:
    datasets.Dataset.from_list([PAIR, {**PAIR, "chosen": None}]).to_parquet("d.parquet")
    with pytest.raises(UsageError, match=r"^d\.parquet: row 2: chosen is null, not text"):
        load("d.parquet", Task.DPO)


def test_labels_of_a_csv_file_are_read() -> None:
    Path("d.csv").write_text("prompt,completion,label\nq,a,True\nq,b,false\nq,c,1\n")
    assert load("d.csv", Task.KTO).dataset["label"][:] == [True, False, True]


@pytest.mark.parametrize("task", TASKS)
def test_a_file_for_another_task_is_refused_by_its_name(task: Task) -> None:
    with pytest.raises(UsageError) as caught:
        load(write("d.jsonl", {"text": "a"}), task)
    assert str(caught.value).startswith(f"d.jsonl: cannot train on the columns text with --task {task.value}.")
    assert "--task sft" in str(caught.value)


def test_evaluation_data_becomes_turns_where_the_training_data_is_turns() -> None:
    data = read(
        Task.REWARD, {"prompt": CHAT["chosen"][:1], "chosen": "a", "rejected": "b"}, eval_data=write("e.jsonl", PAIR)
    )
    assert data.evaluation is not None
    assert data.evaluation.to_list() == data.train.to_list()


def test_evaluation_data_without_a_column_that_rewards_may_ask_for_is_refused() -> None:
    with pytest.raises(UsageError, match=r"e\.jsonl and d\.jsonl must have the same columns; they differ in answer"):
        read(Task.GRPO, ROWS[Task.GRPO], eval_data=write("e.jsonl", {"prompt": "q"}))


def test_the_token_that_ends_a_turn_stops_generation_but_not_a_score() -> None:
    template = (
        "{% for m in messages %}<unk>{{ m['content'] }}<pad>{% endfor %}{% if add_generation_prompt %}<unk>{% endif %}"
    )
    Path("model").mkdir()
    for file in MODEL.iterdir():
        if file.suffix == ".json":
            Path("model", file.name).write_text(file.read_text())
    Path("model", "chat_template.jinja").write_text(template)
    asked = {"data": write("d.jsonl", CHAT)}
    stops = {
        task: training_data(make_request("model", task=task, **asked)).stop_token_id for task in (Task.REWARD, Task.DPO)
    }
    assert stops == {Task.REWARD: None, Task.DPO: load_tokenizer("model", trust_remote_code=False).pad_token_id}


def test_a_row_that_the_template_refuses_is_named() -> None:
    tokenizer = load_tokenizer(str(MODEL), trust_remote_code=False)
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['content'] == 'bad' %}{{ raise_exception('no bad words') }}{% endif %}"
        "{{ m['content'] }}{% endfor %}"
    )
    bad = {**CHAT, "rejected": [CHAT["rejected"][0], {"role": "assistant", "content": "bad"}]}
    check_templates(load(write("good.jsonl", CHAT), Task.DPO), tokenizer)
    with pytest.raises(UsageError, match=r"^d\.jsonl, line 2: .* refuses it \(no bad words\)"):
        check_templates(load(write("d.jsonl", CHAT, bad), Task.DPO), tokenizer)

"""What a row says is honoured, or refused or named with its row; and the tokens are those of plain trl."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from autofit.domain.errors import UsageError
from autofit.domain.request import Learn
from autofit.domain.workload import Learned
from autofit.worker.data.training_data import training_data
from tests.builders import make_request
from tests.training.rows import (
    IGNORED,
    MODEL,
    by_trl,
    learned,
    model_with,
    plain_tokenizer,
    seen,
    tokenizer_with,
    whole,
    write,
)

ASKED = {"role": "user", "content": "Who forgot it?"}
ANSWERED = {"role": "assistant", "content": "Ravi."}
THINKS = (
    "{% for m in messages %}<|{{ m['role'] }}|>"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def refusal(*rows: dict[str, Any], **asked: Any) -> str:
    with pytest.raises(UsageError) as caught:
        seen(*rows, **asked)
    return str(caught.value)


def chat(*turns: dict[str, Any], **columns: Any) -> dict[str, Any]:
    return {"messages": list(turns), **columns}


@pytest.mark.parametrize("mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"loss": False}, {"training": 0}])
def test_a_turn_that_is_marked_so_is_read_and_not_learned(mark: dict[str, object]) -> None:
    first = {"role": "assistant", "content": "Hm.", **mark}
    data = seen(chat(ASKED, first, {"role": "user", "content": "again"}, {**ANSWERED, **dict.fromkeys(mark, 1)}))
    assert "Hm." in whole(data)
    assert learned(data) == "Ravi.</s>"


def test_a_mark_between_or_against_another_is_refused() -> None:
    assert "line 1: messages[1].weight is 0.5" in refusal(chat(ASKED, {**ANSWERED, "weight": 0.5}))
    assert "weight, train differ" in refusal(chat(ASKED, {**ANSWERED, "weight": 1, "train": False}))


def test_a_mark_on_anothers_turn_and_a_key_that_nobody_reads_are_named_with_their_row() -> None:
    rows = (chat(ASKED, ANSWERED), chat({**ASKED, "train": True, "name": "Ann"}, {**ANSWERED, "loss": 1.5}))
    data = seen(*rows)
    named = "loss (first in row 2), name (first in row 2), train of user turns (first in row 2)"
    assert f"not heard of the turns: {named}" in data.notes
    assert learned(data, 1) == "Ravi.</s>"


def test_reasoning_is_learned_where_the_template_shows_it(tmp_path: Path) -> None:
    model = model_with(tokenizer_with(THINKS), tmp_path / "model")
    for name in ("reasoning_content", "reasoning", "thinking"):
        data = seen(chat(ASKED, {**ANSWERED, name: "I think"}), model=model)
        assert learned(data) == "<think>I think</think>Ravi.<|end|>"
        assert not any("not shown" in note for note in data.notes)


def test_reasoning_that_the_template_leaves_out_is_named_with_its_row() -> None:
    data = seen(chat(ASKED, ANSWERED), chat(ASKED, {**ANSWERED, "reasoning_content": "I think"}))
    assert learned(data, 1) == "Ravi.</s>"
    assert any("not shown by the chat template" in note and "reasoning (first in row 2)" in note for note in data.notes)


def test_a_turn_that_the_template_leaves_out_is_named_with_its_row(tmp_path: Path) -> None:
    deaf = THINKS.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")
    model = model_with(tokenizer_with(deaf), tmp_path / "model")
    data = seen(chat({"role": "system", "content": "Be terse."}, ASKED, ANSWERED), model=model)
    assert any("system turns (first in row 1)" in note for note in data.notes)


@pytest.mark.parametrize(
    "row",
    [
        {"system": "Be terse.", "conversations": [
            {"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Ravi."}]},
        {"system_prompt": "Be terse.", "messages": [{"role": "user", "content": "Who?"}, ANSWERED]},
        {"system": "Be terse.", "instruction": "Who?", "input": "", "output": "Ravi."},
        {"system": "Be terse.", "prompt": "Who?", "completion": "Ravi."},
        {"system": "Be terse.", "question": "Who?", "answer": "Ravi."},
    ],
)  # fmt: skip
def test_a_system_column_becomes_a_system_turn(row: dict[str, Any]) -> None:
    data = seen(row)
    assert whole(data) == "<s>System:\nBe terse.\n\nUser:\nWho?\n\nAssistant:\nRavi.</s>"
    assert learned(data) == "Ravi.</s>"
    assert not any("not used" in note for note in data.notes)


def test_a_system_turn_and_another_system_column_are_refused() -> None:
    row = chat({"role": "system", "content": "Be terse."}, ASKED, ANSWERED)
    assert whole(seen({**row, "system": "Be terse."})).count("Be terse.") == 1
    assert "system says one thing and the system turn another" in refusal({**row, "system": "Talk."})


@pytest.mark.parametrize(
    "history",
    [[["Hi there", "Hello!"]], '[["Hi there", "Hello!"]]', [{"role": "user", "content": "Hi there"}]],
    ids=str,
)
def test_a_history_becomes_its_turns(history: object) -> None:
    row = {"instruction": "Sum up.", "input": "A plant.", "output": "Ravi.", "system": "Be terse.", "history": history}
    data = seen(row, {**row, "history": None, "system": ""})
    answer = "\n\nAssistant:\nHello!</s>" if "Hello" in str(history) else ""
    earlier = f"<s>System:\nBe terse.\n\nUser:\nHi there{answer}\n\n"
    assert whole(data) == earlier + "User:\nSum up.\n\nA plant.\n\nAssistant:\nRavi.</s>"
    assert whole(data, 1) == "<s>User:\nSum up.\n\nA plant.\n\nAssistant:\nRavi.</s>"


def test_evaluation_data_without_a_system_turn_is_read_as_its_training_data() -> None:
    row = {"instruction": "Who?", "output": "Ravi."}
    write("e.jsonl", {**row, "weight": 1})
    data = seen({**row, "system": "Be terse."}, eval_data="e.jsonl")
    assert data.evaluation is not None
    assert data.tokenizer.decode(data.evaluation[0]["input_ids"]) == "<s>User:\nWho?\n\nAssistant:\nRavi.</s>"
    assert "evaluation: columns not used: weight" in data.notes


def test_a_history_that_is_none_is_refused_with_its_row() -> None:
    row = {"instruction": "a", "output": "b", "history": [["only one"]]}
    assert "line 1: history[0] is a list, not a pair of question and answer" in refusal(row)


def test_columns_that_are_empty_throughout_change_nothing() -> None:
    row = {"instruction": "Sing.", "output": "la"}
    assert whole(seen({**row, "system": "", "history": []})) == whole(seen(row))


@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_turns_held_as_json_text_are_read(column: str) -> None:
    data = seen(
        {column: json.dumps([ASKED, ANSWERED])}, {column: json.dumps([ASKED, {**ANSWERED, "content": "Yara."}])}
    )
    assert data.train[:] == seen(chat(ASKED, ANSWERED), chat(ASKED, {**ANSWERED, "content": "Yara."})).train[:]
    said = refusal({column: json.dumps([ASKED, ANSWERED])}, {column: "[{'role': 'user'"})
    assert f"line 2: {column} is text and no JSON list of turns" in said


def test_turns_as_text_in_a_parquet_file_are_read_and_its_rows_are_named() -> None:
    datasets.Dataset.from_dict({"messages": [json.dumps([ASKED, ANSWERED]), "[oh"]}).to_parquet("d.parquet")
    with pytest.raises(UsageError, match=r"d\.parquet: row 2: messages is text and no JSON list"):
        training_data(make_request(MODEL, data="d.parquet"))


def test_masks_of_tokenised_rows_say_what_is_learned() -> None:
    ids = [1, 7, 8, 9, 2]
    padded = {"input_ids": [3, *ids, 3], "attention_mask": [0, 1, 1, 1, 1, 1, 0]}
    rows = [
        {"input_ids": ids},
        {"input_ids": ids, "labels": [IGNORED, IGNORED, 8, 9, 2]},
        {"input_ids": ids, "completion_mask": [0, 0, 0, 1, 1]},
        {"input_ids": ids, "labels": [IGNORED, IGNORED, 8, 9, 2], "assistant_masks": [1, 1, 1, 0, 1]},
        padded,
    ]
    data = seen(*rows)
    assert data.learned is Learned.LABELS
    assert data.train["input_ids"][:] == [ids] * 5
    assert data.train["labels"][:] == [
        ids, [IGNORED, IGNORED, 8, 9, 2], [IGNORED, IGNORED, IGNORED, 9, 2], [IGNORED, IGNORED, 8, IGNORED, 2], ids,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"labels": [1, 2]}, "labels has 2 entries for 3 tokens"),
        ({"completion_mask": [1]}, "completion_mask has 1 entries for 3 tokens"),
        ({"completion_mask": [0, 1, 2]}, "completion_mask holds something else than 0 and 1"),
        ({"attention_mask": [1, 0, 1]}, "attention_mask has a 0 amid the row"),
        ({"input_ids": [1, -2, 3]}, "input_ids holds -2"),
        ({"input_ids": [1, 2**40, 3]}, "input_ids holds 1099511627776, which is no token"),
        ({"input_ids": [1, 10**25, 3]}, "input_ids holds 1000"),
        ({"input_ids": [1, 2.5, 3]}, "input_ids holds 2.5, not whole numbers alone"),
        ({"labels": [1, -1, 3]}, "labels holds -1, which is no token"),
    ],
)
def test_masks_that_cannot_be_honoured_are_refused_with_their_row(row: dict[str, Any], sentence: str) -> None:
    assert f"line 2: {sentence}" in refusal({"input_ids": [1, 2, 3]}, {"input_ids": [1, 2, 3], **row})


def test_a_text_that_begins_with_bos_gets_no_second_one() -> None:
    assert seen({"text": "<s>row"}).train[:] == seen({"text": "row"}).train[:]
    pair = {"prompt": "<s>Who?\n", "completion": "Ravi."}
    assert seen(pair).train[:] == seen({**pair, "prompt": "Who?\n"}).train[:]


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": "Ravi forgot a plant."}, {"text": "at the station</s>"}],
        [{"prompt": "Who forgot it?\n", "completion": "Ravi."}, {"prompt": "Where", "completion": "ver it was."}],
        [{"input_ids": [1, 7, 8, 9], "labels": [IGNORED, 7, 8, 9]}, {"input_ids": [1, 7], "labels": [1, 7]}],
    ],
    ids=["texts", "pairs", "tokens"],
)
def test_the_tokens_and_labels_are_those_of_plain_trl(rows: list[dict[str, Any]]) -> None:
    assert list(seen(*rows).train) == by_trl(rows, plain_tokenizer())


def test_the_whole_of_a_pair_is_learned_where_that_is_asked_for() -> None:
    rows = [{"prompt": "Who forgot it?\n", "completion": "Ravi."}]
    assert list(seen(*rows, learn=Learn.ALL).train) == by_trl(rows, plain_tokenizer(), completion_only_loss=False)


def test_the_saved_tokenizer_keeps_its_own_template(tmp_path: Path) -> None:
    import trl

    template = (Path(trl.__file__).parent / "chat_templates/qwen3.jinja").read_text("utf-8")
    data = seen(chat(ASKED, ANSWERED), model=model_with(tokenizer_with(template), tmp_path / "model"))
    assert data.learned is Learned.TWIN_TURNS
    assert data.tokenizer.chat_template == template


def test_a_template_of_the_users_takes_the_place_of_the_tokenizers() -> None:
    Path("mine.jinja").write_text("{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}")
    assert (
        whole(seen(chat(ASKED, ANSWERED), extra=("--chat_template_path", "mine.jinja")))
        == "Who forgot it?</s>Ravi.</s>"
    )
    assert "other.jinja is no .jinja file" in refusal(chat(ASKED), extra=("--chat_template_path", "other.jinja"))


def test_evaluation_data_is_read_in_the_same_way() -> None:
    write("e.jsonl", chat(ASKED, {**ANSWERED, "weight": 0}, ASKED, {**ANSWERED, "content": "Yara."}))
    data = seen(chat(ASKED, ANSWERED), eval_data="e.jsonl")
    assert data.evaluation is not None
    labels = [label for label in data.evaluation[0]["labels"] if label != IGNORED]
    assert data.tokenizer.decode(labels) == "Yara.</s>"

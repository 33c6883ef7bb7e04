"""The survey of many rows: made by several processes, told while they are made, and foretold by a sample."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import datasets
import pytest

from autofit.domain.request import Request
from autofit.domain.task import Task
from autofit.domain.workload import DataProfile
from autofit.planning.data.batch_widths import worst_shape
from autofit.probing.protocol import Foreseen, RowsMade, Survey, Surveyed, SurveyRefused
from autofit.worker.data import row_processes
from autofit.worker.data.training_data import training_data
from autofit.worker.rank import seldom
from autofit.worker.training import survey
from autofit.worker.training.stand_in import stand_in_trainer
from tests.builders import make_request

MODEL = Path(__file__).parents[3] / "examples/tiny-llama"
ROWS = 60
LONG_ROW = 53  # late, alone, and in the share of the last process


@pytest.fixture(autouse=True)
def _many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So few rows are many here, and no test reads or fills the user's cache."""
    monkeypatch.setattr(row_processes, "LEAST_ROWS", 10)
    monkeypatch.setattr(survey, "LEAST_ROWS", 10)
    monkeypatch.setattr(survey, "MANY_ROWS", 20)
    monkeypatch.setattr(survey, "SAMPLE_ROWS", 6)
    monkeypatch.setattr(seldom, "EVERY_S", 0.0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    use_cache(tmp_path / "cache", monkeypatch)
    monkeypatch.chdir(tmp_path)


def use_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)


def chat(number: int) -> list[dict[str, str]]:
    words = "tell me of the station " * (12 if number == LONG_ROW else 1 + number % 3)
    return [{"role": "user", "content": words}, {"role": "assistant", "content": f"It is number {number}."}]


def answers(task: Task, number: int) -> dict[str, object]:
    prompt, answer = chat(number)[:1], chat(number)[1:]
    if task is Task.SFT:
        return {"messages": prompt + answer}
    if task is Task.GRPO:
        return {"prompt": prompt}
    return {"prompt": prompt, "chosen": answer, "rejected": [{"role": "assistant", "content": "No."}]}


def request(task: Task = Task.SFT, tokens: int = 512, **asked: object) -> Request:
    Path("d.jsonl").write_text("".join(json.dumps(answers(task, number)) + "\n" for number in range(ROWS)))
    return make_request(MODEL, tokens, task=task, data="d.jsonl", global_batch=8, **asked)


def surveyed(
    asked: Request, processes: int, heard: list[object] | None = None, *, foresees: bool = False
) -> DataProfile:
    said = survey.run(Survey(asked, "log", processes, foresees), [].append if heard is None else heard.append)
    assert isinstance(said, Surveyed), said
    return said.profile


@pytest.mark.parametrize("task", [Task.SFT, Task.DPO])
def test_several_processes_make_of_the_rows_what_one_makes(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(task)
    by_one = surveyed(asked, 1)
    use_cache(tmp_path / "another", monkeypatch)
    Path("d.jsonl").touch()  # as new to `datasets`
    assert surveyed(asked, 2) == by_one
    assert by_one.longest_tokens > 2 * by_one.sampled_lengths_tokens[len(by_one.sampled_lengths_tokens) // 2]


def test_a_rank_finds_what_several_processes_have_made() -> None:
    asked = request()
    surveyed(asked, 2)
    made = {path: path.stat().st_mtime_ns for path in Path(datasets.config.HF_DATASETS_CACHE).rglob("*.arrow")}
    assert any("_of_00002" in path.name for path in made)
    lengths = [len(ids) for ids in training_data(asked).train["input_ids"]]
    assert lengths.index(max(lengths)) == LONG_ROW
    assert made == {path: path.stat().st_mtime_ns for path in Path(datasets.config.HF_DATASETS_CACHE).rglob("*.arrow")}


def test_how_many_rows_are_made_is_told_and_nothing_the_second_time() -> None:
    asked, heard = request(), []
    surveyed(asked, 2, heard)
    assert RowsMade(ROWS, ROWS) in heard
    heard.clear()
    surveyed(asked, 2, heard)
    assert heard == []


def test_the_row_that_the_template_refuses_in_one_of_several_processes_is_named() -> None:
    strict = "{%- if messages[1]['content'] == 'It is number 53.' %}{{ raise_exception('no 53') }}{% endif -%}"
    Path("strict.jinja").write_text(strict + "{%- for m in messages -%}{{ m['content'] }}{%- endfor -%}")
    said = survey.run(Survey(request(extra=("--chat_template_path", "strict.jinja")), "log", 2))
    assert isinstance(said, SurveyRefused)
    assert f"d.jsonl, line {LONG_ROW + 1}: the tokenizer or its chat template refuses it (no 53)" in said.message


@pytest.mark.parametrize("task", [Task.SFT, Task.DPO, Task.GRPO])
def test_what_a_sample_foretells_is_never_narrower_than_what_there_is(task: Task) -> None:
    heard: list[object] = []
    seen = surveyed(replace(request(task), eval_fraction=0.2), 1, heard, foresees=True)
    (foretold,) = (news.profile for news in heard if isinstance(news, Foreseen))
    assert foretold.is_foreseen
    assert not seen.is_foreseen
    assert foretold.longest_tokens == 512 >= seen.longest_tokens
    assert foretold.sampled_lengths_tokens[-1] < seen.longest_tokens  # the sample has not the longest row
    assert foretold.example_count + foretold.eval_example_count == pytest.approx(ROWS, abs=10)
    assert foretold.data_format == seen.data_format


def test_nothing_is_foretold_of_few_rows_or_without_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[object] = []
    surveyed(request(extra=("--packing", "true", "--packing_strategy", "wrapped")), 1, heard, foresees=True)
    monkeypatch.setattr(survey, "MANY_ROWS", ROWS + 1)
    surveyed(request(), 1, heard, foresees=True)
    assert not any(isinstance(news, Foreseen) for news in heard)


@pytest.mark.parametrize(
    ("task", "extra"),
    [
        (Task.SFT, ()),
        (Task.SFT, ("--packing", "true")),
        (Task.DPO, ()),
        (Task.KTO, ()),
        (Task.REWARD, ()),
    ],
)
def test_no_batch_of_an_epoch_is_wider_than_the_widest_of_a_probe(
    task: Task, extra: tuple[str, ...], tmp_path: Path
) -> None:
    """One row alone is long: whatever the order of the rows, some batch has its width."""
    asked = request(task, extra=extra)
    data, seen = training_data(asked), surveyed(asked, 1)
    trainer = stand_in_trainer(asked, data, folder=str(tmp_path / "out"))
    rows = [trainer.train_dataset[i] for i in range(len(trainer.train_dataset))]
    batches = [trainer.data_collator(rows[i : i + 4])["input_ids"] for i in range(0, len(rows), 4)]
    worst = worst_shape(seen, 4, asked.task.traits.sequences_per_row)
    assert max(tokens.numel() for tokens in batches) <= 4 * asked.task.traits.sequences_per_row * worst.padded_tokens
    if not extra:  # packed rows are laid end to end
        assert max(tokens.shape[-1] for tokens in batches) == worst.padded_tokens


def test_packing_fills_rows_up_that_it_did_not_fill_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all rows a bin may come out fuller than of some: as full as --seq allows."""
    monkeypatch.setattr(survey, "sample", lambda in_order: in_order[::10])
    assert surveyed(request(tokens=100, extra=("--packing", "true")), 1).longest_tokens == 100

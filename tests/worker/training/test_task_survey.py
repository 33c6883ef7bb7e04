"""What the survey says of data that trl's trainers tokenize: what each of them really keeps, pads and cuts."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest

from autofit.domain.request import Generation, Request
from autofit.domain.task import Task
from autofit.domain.workload import DataProfile, RowCounts
from autofit.planning.data.truncation import check_lost_rows
from autofit.probing.protocol import Survey, Surveyed, SurveyRefused
from autofit.worker.data.row_extents import seen_rows
from autofit.worker.data.training_data import training_data
from autofit.worker.tasks.grpo import GrpoTrainer
from autofit.worker.training import survey
from autofit.worker.training.stand_in import stand_in_trainer
from autofit.worker.training.tiny_model import tiny_model
from autofit.worker.training.trainer_arguments import stand_in_arguments
from tests.builders import make_request

MODEL = Path(__file__).parents[3] / "examples/tiny-llama"
TASKS = [task for task in Task if task is not Task.SFT]
TOKENS = 32


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)


def write(name: str, rows: list[dict[str, Any]]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def request(task: Task, rows: list[dict[str, Any]] | None, tokens: int = TOKENS, **asked: Any) -> Request:
    data = None if rows is None else write("d.jsonl", rows)
    asked = {"generation": Generation(4, 8), "global_batch": 8, **asked}
    return make_request(MODEL, tokens, task=task, data=data, **asked)


def profile(asked: Request) -> DataProfile:
    said = survey.run(Survey(asked, "log"))
    assert isinstance(said, Surveyed), said
    return said.profile


def refusal(asked: Request) -> str:
    said = survey.run(Survey(asked, "log"))
    assert isinstance(said, SurveyRefused)
    return said.message


def words(rng: random.Random, most: int) -> str:
    return " ".join(rng.choice(("plant", "station", "uncle", "meet")) for _ in range(rng.randint(1, most)))


def turns(question: str, answer: str | None = None) -> list[dict[str, str]]:
    asked = [{"role": "user", "content": question}]
    return asked if answer is None else [*asked, {"role": "assistant", "content": answer}]


def rows_of(task: Task, form: str, count: int = 40) -> list[dict[str, Any]]:
    """Rows of many lengths around TOKENS, among them prompts that fill it alone."""
    rng, rows = random.Random(1), []
    for number in range(count):
        question, good, bad = words(rng, 40), words(rng, 14), words(rng, 14)
        rows.append(
            {
                "text": {"prompt": question, "chosen": good, "rejected": bad},
                "whole text": {"chosen": f"{question}: {good}", "rejected": f"{question}: {bad}"},
                "chats": {"prompt": turns(question), "chosen": turns("", good)[1:], "rejected": turns("", bad)[1:]},
                "whole chats": {"chosen": turns(question, good), "rejected": turns(question, bad)},
                "judged": {"prompt": question, "completion": good, "label": number % 2 == 0},
                "judged chats": {
                    "prompt": turns(question),
                    "completion": turns("", good)[1:],
                    "label": number % 2 == 0,
                },
            }[form]
        )
    return rows


@pytest.mark.parametrize("task", Task)
def test_each_task_has_a_sample_that_its_trainer_takes(task: Task) -> None:
    seen = profile(request(task, None, tokens=128))
    assert seen.example_count >= 100
    assert seen.rows is not None
    assert seen.rows.lost <= 0.05 * seen.rows.total
    assert 16 < seen.longest_tokens <= 128
    assert seen.sampled_lengths_tokens == tuple(sorted(seen.sampled_lengths_tokens))
    assert seen.learned is not None


PAIRED = ("text", "whole text", "chats", "whole chats")
FORMS = [
    *((task, form) for task in (Task.REWARD, Task.DPO, Task.KTO) for form in PAIRED),
    (Task.KTO, "judged"),
    (Task.KTO, "judged chats"),
]


@pytest.mark.parametrize(("task", "form"), FORMS)
def test_the_rows_and_their_widths_are_those_of_the_trainers_own_batches(task: Task, form: str, tmp_path: Path) -> None:
    asked = request(task, rows_of(task, form))
    data = training_data(asked)
    trainer = stand_in_trainer(asked, data, folder=str(tmp_path))
    trainer.data_collator.pad_to_multiple_of = None
    widths = [trainer.data_collator([row])["input_ids"].shape[1] for row in trainer.train_dataset]
    seen = profile(asked)
    assert seen.rows is not None
    assert 0 < seen.rows.lost < seen.rows.total == len(data.train) * (2 if task is Task.KTO and form in PAIRED else 1)
    assert seen.example_count == seen.rows.total - seen.rows.lost == len(widths)
    assert seen.sampled_lengths_tokens == tuple(sorted(widths))
    assert seen.longest_tokens == max(widths)
    assert (seen.rows.too_long > 0, seen.rows.dropped > 0) == (task is Task.REWARD, task is not Task.REWARD)
    assert (seen.rows.cut > 0) is (task is not Task.REWARD)


def test_answers_that_are_cut_at_their_beginning_lose_no_row() -> None:
    seen = profile(request(Task.DPO, rows_of(Task.DPO, "text"), extra=("--truncation_mode", "keep_end")))
    assert seen.rows is not None
    assert seen.rows.lost == 0
    assert seen.rows.cut > 0


@pytest.mark.parametrize("form", ["text", "chats"])
def test_prompts_whose_longest_answer_does_not_fit_are_left_out(form: str, tmp_path: Path) -> None:
    rows = [{"prompt": row["prompt"], "answer": n} for n, row in enumerate(rows_of(Task.GRPO, form))]
    asked = request(Task.GRPO, rows)
    data, seen = training_data(asked), profile(asked)
    trainer = GrpoTrainer(
        model=tiny_model(len(data.tokenizer)),
        args=stand_in_arguments(asked, output_path=str(tmp_path)),
        train_dataset=data.train,
        eval_dataset=data.train,
        processing_class=data.tokenizer,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        longest_prompt_tokens=TOKENS - 8,
    )
    kept = trainer.train_dataset
    assert trainer.eval_dataset is not None
    assert list(trainer.eval_dataset["prompt"]) == list(kept["prompt"])
    lengths = [extent.first for extent in seen_rows(asked, trainer, kept).extents]
    assert 0 < len(kept) == seen.example_count < len(rows)
    assert max(lengths) == TOKENS - 8
    assert seen.sampled_lengths_tokens == tuple(sorted(length + 8 for length in lengths))
    assert seen.longest_tokens == TOKENS
    assert seen.rows is not None
    assert seen.rows == RowCounts(len(rows), too_long=len(rows) - len(kept), enough_tokens=seen.rows.enough_tokens)
    assert "is the first that is longer than --seq" in " ".join(seen.notes)
    longer = profile(replace(asked, sequence_length=seen.rows.enough_tokens or 0))
    assert longer.rows is not None
    check_lost_rows(asked, longer)


def test_a_share_for_evaluation_is_counted_with_its_source() -> None:
    seen = profile(request(Task.DPO, rows_of(Task.DPO, "text"), tokens=128, eval_fraction=0.25))
    assert (seen.example_count, seen.eval_example_count) == (30, 10)
    assert seen.rows is not None
    assert (seen.rows.total, seen.eval_rows) == (40, None)


def test_evaluation_data_of_its_own_is_counted_apart() -> None:
    rows = rows_of(Task.REWARD, "text")
    asked = request(Task.REWARD, rows[:30], tokens=128, eval_data=write("e.jsonl", rows[30:]))
    seen = profile(asked)
    assert seen.rows is not None
    assert seen.eval_rows is not None
    assert (seen.rows.total, seen.eval_rows.total, seen.eval_example_count) == (30, 10, 10)


def test_the_ranks_find_the_tokens_that_the_survey_made(tmp_path: Path) -> None:
    asked = request(Task.DPO, rows_of(Task.DPO, "text"))
    profile(asked)
    made = set(tmp_path.rglob("*.arrow"))
    data = training_data(asked)
    trainer = stand_in_trainer(asked, data, folder=str(tmp_path / "out"))
    tokens = Path(trainer.train_dataset.cache_files[0]["filename"])
    assert "prompt_ids" in datasets.Dataset.from_file(str(tokens)).column_names
    assert tokens in made


@pytest.mark.parametrize(
    ("task", "extra"),
    [
        (Task.DPO, ("--precompute_ref_log_probs", "true")),
        (Task.KTO, ("--precompute_ref_log_probs", "true")),
        (Task.GRPO, ("--beta", "0.1")),
    ],
)
def test_what_the_model_alone_can_show_is_not_asked_of_the_stand_in(task: Task, extra: tuple[str, ...]) -> None:
    assert profile(request(task, None, tokens=128, extra=extra)).example_count >= 100


def test_rows_that_are_all_too_long_are_refused_with_what_would_do() -> None:
    rows = [{"prompt": "one two three " * 20, "chosen": "a", "rejected": "b"}]
    assert "d.jsonl: every row is longer than 32 tokens" in (said := refusal(request(Task.REWARD, rows)))
    assert "keeps enough of them" in said
    assert "d.jsonl: all that is learned lies beyond 32 tokens, in every row" in refusal(request(Task.DPO, rows))
    assert "d.jsonl: every row is longer than 32 tokens" in refusal(request(Task.GRPO, rows))


def test_an_argument_that_trl_refuses_is_named() -> None:
    said = refusal(request(Task.DPO, None, extra=("--loss_type", "exo_pair")))
    assert said.startswith("trl refuses the training with `-- --loss_type exo_pair`: Label smoothing")


def test_a_row_that_the_template_refuses_is_named() -> None:
    template = Path("own.jinja")
    template.write_text(
        "{% for m in messages %}{% if m['content'] == 'bad' %}{{ raise_exception('no bad words') }}{% endif %}"
        "{{ m['content'] }}{% endfor %}"
    )
    rows = [{"chosen": turns("q", "a"), "rejected": turns("q", answer)} for answer in ("b", "bad")]
    said = refusal(request(Task.REWARD, rows, extra=("--chat_template_path", str(template))))
    assert said.startswith("d.jsonl, line 2: the tokenizer or its chat template refuses it (no bad words)")


def test_answers_that_do_not_divide_the_batch_are_refused_before_any_row_is_read() -> None:
    said = refusal(replace(request(Task.GRPO, None, global_batch=9), data="missing.jsonl"))
    assert said.startswith("a step of 9 answers cannot be 4 answers to each prompt")


def test_prompts_that_are_less_than_a_step_are_refused() -> None:
    assert "one step takes 2 prompts" in refusal(request(Task.GRPO, [{"prompt": "q"}]))


def test_tokens_beyond_the_embedding_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autofit.worker.training.task_survey.embedding_count", lambda asked: 5)
    for task in TASKS:
        assert "is beyond the model's embedding, which holds 5" in refusal(request(task, None, tokens=128))


def test_judgements_of_one_kind_are_noted() -> None:
    rows = [{"prompt": "q", "completion": answer, "label": True} for answer in "ab"]
    assert "every answer is judged good: there is nothing to tell it from" in profile(request(Task.KTO, rows)).notes

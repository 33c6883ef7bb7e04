"""Every field of the trainer's arguments after the dashes: taken by all that will read it, or refused by the survey."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
from pathlib import Path

import datasets
import huggingface_hub
import pytest
from click import Command
from transformers import GenerationConfig
from trl import RewardConfig, SFTConfig

from autofit.cli.train import command as train_verb
from autofit.domain.errors import UsageError
from autofit.domain.request import Request, Training
from autofit.domain.task import Task
from autofit.probing.protocol import Survey, Surveyed, SurveyRefused
from autofit.worker.training import survey
from autofit.worker.training.argument_fields import FIXED, GENERATION_KEYS, GENERATION_OURS, GONE, OURS
from autofit.worker.training.trainer_arguments import extra_arguments
from tests.builders import make_request

MODEL = Path(__file__).parents[3] / "examples/tiny-llama"
FIELDS = {field.name for field in dataclasses.fields(SFTConfig)}

TAKEN = {
    "length and order": "--data_seed 7 --dataloader_drop_last true --ignore_data_skip true --shuffle_dataset true",
    "schedule": (
        "--lr_scheduler_type cosine_with_min_lr --lr_scheduler_kwargs '{\"min_lr_rate\": 0.1}' --warmup_steps 3 "
        "--full_determinism false --restore_callback_states_from_checkpoint true"
    ),
    "optimizer": (
        "--optim adamw_torch --optim_args a=1 --weight_decay 0.01 --adam_beta1 0.8 --adam_beta2 0.95 "
        "--adam_epsilon 1e-6 --max_grad_norm 0.3"
    ),
    "loss": "--label_smoothing_factor 0.1 --neftune_noise_alpha 5 --loss_type nll --router_aux_loss_coef 0",
    "memory": "--torch_empty_cache_steps 4 --activation_offloading false --use_liger_kernel false --tf32 false",
    "checkpointing": "--gradient_checkpointing_kwargs '{\"use_reentrant\": false}'",
    "checkpointing, as transformers 5 calls it": "--activation_checkpointing_kwargs '{\"preserve_rng_state\": true}'",
    "logging": (
        "--logging_strategy steps --logging_steps 10 --logging_first_step true --log_on_each_node false "
        "--log_level info --log_level_replica error --disable_tqdm false --include_num_input_tokens_seen true "
        "--run_name r --project p --trackio_space_id a/b --trackio_bucket_id b --trackio_static_space_id c "
        "--debug underflow_overflow"
    ),
    "evaluation": (
        "--do_train true --do_eval true --eval_strategy steps --eval_steps 50 --eval_delay 10 --eval_on_start true "
        "--prediction_loss_only true --eval_do_concat_batches false --eval_accumulation_steps 4"
    ),
    "the best model": (
        "--load_best_model_at_end true --metric_for_best_model eval_loss --save_strategy epoch --save_total_limit 3"
    ),
    "hub": (
        "--push_to_hub false --hub_model_id a/b --hub_private_repo true --hub_strategy end --hub_always_push true "
        "--hub_revision main"
    ),
    "data loader": (
        "--dataloader_num_workers 1 --dataloader_pin_memory false --dataloader_persistent_workers true "
        "--dataloader_prefetch_factor 2 --dataloader_multiprocessing_context spawn --dataloader_in_order true "
        "--remove_unused_columns true"
    ),
    "rows": (
        "--chat_template_path chat.jinja --eos_token </s> --pad_token </s> --dataset_num_proc 1 "
        "--truncation_mode keep_start --pad_to_multiple_of 16"
    ),
    "packing": "--packing true --packing_strategy bfd --eval_packing false --padding_free false",
}
"""All fields that are neither autofit's nor fixed, in groups, each with a value."""


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with data and a template, nobody logged in, no GPU."""
    monkeypatch.setattr(os, "environ", os.environ)  # datasets puts a copy in its place where it maps in processes
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    monkeypatch.chdir(tmp_path)
    Path("d.jsonl").write_text("".join(json.dumps({"text": f"row {n}"}) + "\n" for n in range(50)))
    Path("chat.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")


def request(words: str, eval_fraction: float = 0.2, **training: object) -> Request:
    told = Training(extra_arguments=tuple(shlex.split(words)), **training)  # type: ignore[arg-type]
    return make_request(MODEL, data="d.jsonl", eval_fraction=eval_fraction, training=told)


def answer(asked: Request) -> Surveyed | SurveyRefused:
    return survey.run(Survey(asked, "log"))


def refusal(words: str, eval_fraction: float = 0.2) -> str:
    said = answer(request(words, eval_fraction))
    assert isinstance(said, SurveyRefused), said
    assert "\n" not in said.message
    return said.message


def test_every_field_stands_in_one_group() -> None:
    taken = [name for words in TAKEN.values() for name in extra_arguments(request(words))]
    assert sorted([*taken, *(FIELDS & {*OURS, *FIXED})]) == sorted(FIELDS)
    assert not FIELDS & set(GONE)


def test_every_field_of_a_reward_model_stands_in_one_group() -> None:
    fields = {field.name for field in dataclasses.fields(RewardConfig)}
    own = dataclasses.replace(request("--center_rewards_coefficient 0.01 --disable_dropout true"), task=Task.REWARD)
    taken = {name for words in TAKEN.values() for name in extra_arguments(request(words))}
    assert sorted([*extra_arguments(own), *fields & {*taken, *OURS, *FIXED}]) == sorted(fields)


@pytest.mark.parametrize("group", TAKEN)
def test_a_field_that_is_taken_goes_through_the_survey(group: str) -> None:
    said = answer(request(TAKEN[group]))
    assert isinstance(said, Surveyed), said


@pytest.mark.parametrize("name", sorted({*OURS, *FIXED}))
def test_a_field_that_is_not_taken_is_refused_by_name_with_what_to_do(name: str) -> None:
    for words in ((f"--{name}", "1"), (f"--{name.replace('_', '-')}=1",), (f"--no_{name}",)):
        with pytest.raises(UsageError) as caught:
            extra_arguments(request(shlex.join(words)))
        assert f"--{name} " in str(caught.value)
        assert OURS.get(name, FIXED.get(name)) in str(caught.value)


def test_the_flags_that_are_named_exist() -> None:
    assert isinstance(train_verb, Command)
    flags = {name for parameter in train_verb.params for name in parameter.opts}
    assert {word for said in OURS.values() for word in said.split(" and ")} <= flags


@pytest.mark.parametrize("name", sorted(GONE))
def test_a_name_of_earlier_versions_says_what_to_do(name: str) -> None:
    assert GONE[name] in refusal(f"--{name} 1")


WITHOUT_EVALUATION = [
    "--eval_strategy steps --eval_steps 50",
    "--eval_strategy epoch",
    "--load_best_model_at_end true",
    "--save_strategy best",
    "--eval_on_start",
    "--lr_scheduler_type reduce_lr_on_plateau",
]


@pytest.mark.parametrize("words", WITHOUT_EVALUATION)
def test_what_evaluates_needs_data_to_evaluate_on(words: str) -> None:
    said = refusal(words, eval_fraction=0)
    assert said.startswith(f"training argument {words.split()[0]} ")
    assert "add --eval-data DATA or --eval-fraction SHARE" in said
    assert isinstance(answer(request(words)), Surveyed)


LATE = [
    ("--eval_strategy no --load_best_model_at_end true", "here are none; give both the same"),
    ("--save_strategy no --load_best_model_at_end true", "here are none; give both the same"),
    ("--save_strategy steps --eval_strategy epoch --load_best_model_at_end", "here are none; give both the same"),
    ("--save_strategy best --eval_strategy no", "here are none; give both the same"),
    ("--load_best_model_at_end --metric_for_best_model accuracy", "has eval_loss alone"),
    ("--lr_scheduler_type cosine_with_min_lr", "min_lr"),
    ("--lr_scheduler_type warmup_stable_decay", "num_decay_steps"),
    ("--lr_scheduler_kwargs '{\"steps\": 1}'", "with `-- --lr_scheduler_kwargs"),
    ("--warmup_ratio 1.5", "no share of the steps"),
    ("--warmup_ratio 0.1 --warmup_steps 5", "give one of them"),
    ("--max_grad_norm -1", "is no norm"),
    ("--optim_args 1", "--optim_args 1"),
    ("--optim paged_lion_32bit", "add --offload none"),
    ("--adam_beta2 1.5", "beta"),
    ("--dataloader_persistent_workers true", "num_workers"),
    ("--dataloader_prefetch_factor 2", "num_workers"),
    ("--pad_to_multiple_of 0", "--pad_to_multiple_of 0"),
    ("--padding_free true", "max_length"),
    ("--gradient_checkpointing_kwargs 1", "is no JSON object"),
    ("--gradient_checkpointing_kwargs '{\"reentrant\": true}'", "reentrant is none of"),
    ("--activation_checkpointing_kwargs '{\"offload\": true}'", "use --gradient-checkpointing offload"),
    ("--gradient_checkpointing_kwargs '{\"every_n_layers\": 2}'", "use --gradient-checkpointing every-2"),
    ("--activation_offloading true", "needs a GPU"),
    ("--router_aux_loss_coef 0.01", "no router"),
    ("--push_to_hub", "add --hub_model_id USER/NAME"),
    ("--push_to_hub --hub_model_id a/b/c", "no name of a repository"),
    ("--push_to_hub --hub_model_id a/b", "`hf auth login`"),
    ("--torch_compile", "time the compiler"),
    ("--logging_steps 0", "logging_steps"),
    ("--nonsense 1", "https://huggingface.co/docs/trl"),
]


@pytest.mark.parametrize(("words", "sentence"), LATE)
def test_what_would_end_the_training_later_is_refused_by_the_survey(words: str, sentence: str) -> None:
    assert sentence in refusal(words)


def test_rows_that_make_no_whole_batch_are_refused_where_others_are_dropped() -> None:
    asked = dataclasses.replace(request("--dataloader_drop_last true"), global_batch=64)
    said = answer(asked)
    assert isinstance(said, SurveyRefused)
    assert "40 rows are less than a global batch of 64" in said.message


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install liger-kernel"):
        survey.check_arguments(request("--use_liger_kernel"), {"use_liger_kernel": True})


def test_a_push_is_taken_from_who_is_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_token")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert isinstance(answer(request("--push_to_hub --hub_model_id a/b")), Surveyed)  # and nothing was pushed
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refusal("--push_to_hub --hub_model_id a/b")


def test_a_space_of_trackio_needs_a_login() -> None:
    asked = request("--trackio_space_id a/b", report_to=("trackio",))
    with pytest.raises(UsageError, match="--trackio_space_id needs a login"):
        survey.check_arguments(asked, {"trackio_space_id": "a/b"})


def test_a_tracker_that_transformers_cannot_start_is_refused() -> None:
    said = answer(request("", report_to=("a-tracker",)))
    assert isinstance(said, SurveyRefused)
    assert "a-tracker is not supported" in said.message


def test_a_schedule_that_is_not_that_of_the_flags_is_told() -> None:
    said = answer(request("--load_best_model_at_end true --eval_steps 300"))
    assert isinstance(said, Surveyed)
    assert any("one is saved every 300 steps" in note for note in said.profile.notes)


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ('{"num_beams": 4}', "num_beams is none of those that leave a generation's memory as it is estimated"),
        ('{"top_k": 5, "prompt_lookup_num_tokens": 3}', "prompt_lookup_num_tokens is none of those"),
        ('{"max_new_tokens": 512}', "max_new_tokens is autofit's to set; use --completion-tokens"),
        ('{"num_return_sequences": 8}', "num_return_sequences is autofit's to set; use --num-generations"),
        ("[4]", "is no JSON object"),
    ],
)
def test_answers_are_not_generated_in_a_way_that_no_estimate_counts(kwargs: str, sentence: str) -> None:
    asked = dataclasses.replace(request(f"--generation_kwargs '{kwargs}'"), task=Task.GRPO)
    with pytest.raises(UsageError, match=re.escape(f"--generation_kwargs {kwargs}")) as refused:
        survey.check_arguments(asked, extra_arguments(asked))
    assert sentence in str(refused.value)


def test_what_says_which_token_comes_next_is_taken() -> None:
    words = '--generation_kwargs \'{"suppress_tokens": [7], "no_repeat_ngram_size": 3}\''
    asked = dataclasses.replace(request(words), task=Task.GRPO)
    survey.check_arguments(asked, extra_arguments(asked))


def test_every_key_of_a_generation_is_one_of_transformers_own() -> None:
    assert vars(GenerationConfig()).keys() >= {*GENERATION_KEYS, *GENERATION_OURS}

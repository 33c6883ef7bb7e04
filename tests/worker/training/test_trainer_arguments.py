from __future__ import annotations

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.request import Training
from autofit.worker.training.trainer_arguments import extra_arguments
from tests.builders import make_request


def of_words(words: tuple[str, ...]) -> dict[str, object]:
    return extra_arguments(make_request("model", training=Training(extra_arguments=words)))


def test_only_what_was_written_is_set() -> None:
    assert of_words(("--warmup_steps", "10", "--packing", "true", "--lr_scheduler_type=cosine")) == {
        "warmup_steps": 10,
        "packing": True,
        "lr_scheduler_type": "cosine",
    }
    assert of_words(()) == {}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--warmup_step", "10"), "did you mean --warmup_steps"),
        (("--nonsense_that_is_far", "1"), "no training argument --nonsense_that_is_far"),
        (("stray",), "stray"),
        (("--warmup_steps", "many"), "warmup_steps"),
        (("--per_device_train_batch_size", "4"), "use --micro-batch instead"),
        (("--deepspeed", "ds.json"), "use --zero-stage and --offload instead"),
        (("--output_dir", "x"), "use --output-dir instead"),
        (("--hub_token", "hf_x"), "it would stand in the run folder"),
        (("--train_sampling_strategy", "sequential"), "order of the rows"),
        (("--average_tokens_across_devices", "false"), "number of devices"),
    ],
)
def test_what_cannot_be_is_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        of_words(words)

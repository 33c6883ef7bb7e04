"""The norm that DeepSpeed clips at is the one that transformers compares it with."""

from __future__ import annotations

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.strategy import Strategy
from autofit.planning.export.deepspeed_config import deepspeed_config
from autofit.planning.gradient_clipping import clipping_norm, gradient_clipping
from tests.builders import LLAMA_7B, make_request, make_rung


@pytest.mark.parametrize(
    ("words", "norm"),
    [
        ("", 1.0),
        ("--max_grad_norm 0.3", 0.3),
        ("--max-grad-norm=0.3 --packing", 0.3),
        ("--max_grad_norm 0", 0.0),
        ("--max_grad_norm 2 --weight_decay 0.1 --max_grad_norm 5e-1", 0.5),
        ("--run_name --max_steps", 1.0),
    ],
)
def test_the_configuration_clips_where_the_trainer_is_told_to(words: str, norm: float) -> None:
    request = make_request(extra=tuple(words.split()))
    config = deepspeed_config(Strategy(make_rung(2), 2, 4), request, LLAMA_7B, DeviceKind.CUDA)
    assert config["gradient_clipping"] == norm


@pytest.mark.parametrize(
    ("optimizer", "words", "norm"),
    [
        (Optimizer.LOMO, "", 0.0),  # it would take a pass more in each step, for which nobody has asked
        (Optimizer.LOMO, "--max_grad_norm 1", 1.0),
        (Optimizer.ADALOMO, "--max_grad_norm 1", 0.0),
        (Optimizer.SGD, "", 1.0),
    ],
)
def test_an_update_in_the_backward_pass_clips_only_where_it_is_asked_to(
    optimizer: Optimizer, words: str, norm: float
) -> None:
    assert clipping_norm(optimizer, words.split()) == norm
    config = deepspeed_config(
        Strategy(make_rung(3, optimizer=optimizer), 2, 4),
        make_request(extra=tuple(words.split())),
        LLAMA_7B,
        DeviceKind.CUDA,
    )
    assert config["gradient_clipping"] == norm


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "much", ""])
def test_what_is_no_norm_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"--max_grad_norm {text} is no norm"):
        gradient_clipping(("--weight_decay", "0", f"--max_grad_norm={text}"))
    with pytest.raises(UsageError, match="is no norm"):
        gradient_clipping(("--max_grad_norm",))

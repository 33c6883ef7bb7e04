"""A row that is two sequences costs what two rows of one cost, and a head of one number has no logits."""

from dataclasses import replace

import pytest

from autofit.domain.hardware import DeviceKind, Link, Rates
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.task import Task
from autofit.planning.memory.activations import micro_step
from autofit.planning.memory.closed_activations import closed_form_bytes, input_bytes
from autofit.planning.setting import Setting
from autofit.planning.speed.step_time import estimate_speed
from autofit.planning.speed.work import LOSS_BYTES, by_formula
from tests.builders import LLAMA_7B, make_hardware, make_host, make_request, make_rung

A100 = Rates(312e12, 312e12, 19.5e12, 2039e9, 32e9, 300e9, 400)
RUNGS = [
    make_rung(2),
    make_rung(2, attention=Attention.EAGER),
    make_rung(2, gradient_checkpointing=GradientCheckpointing.SELECTIVE),
    make_rung(3, method=Method.LORA, gradient_checkpointing=GradientCheckpointing.ON),
]


def setting(task: Task, global_batch: int, *extra: str) -> Setting:
    hardware = make_hardware(
        8, DeviceKind.CUDA, memory_gb=80, host=make_host(1000), link=Link.NVLINK, compute_capability=(8, 0), rates=A100
    )
    request = make_request(tokens=1024, task=task, global_batch=global_batch, extra=extra)
    return Setting(request, hardware, LLAMA_7B, 1024, is_padded=True)


PAIRS, SINGLES = setting(Task.DPO, 32, "--precompute_ref_log_probs"), setting(Task.SFT, 64)


@pytest.mark.parametrize("rung", RUNGS, ids=str)
def test_a_micro_batch_of_pairs_costs_what_twice_as_many_rows_cost(rung: Rung) -> None:
    pairs, singles = Strategy(rung, 2, 2), Strategy(rung, 4, 2)
    assert by_formula(pairs, PAIRS, 900.0) == by_formula(singles, SINGLES, 900.0)
    assert closed_form_bytes(pairs, PAIRS) == closed_form_bytes(singles, SINGLES)
    assert input_bytes(pairs, PAIRS, 900.0) == input_bytes(singles, SINGLES, 900.0)
    assert estimate_speed(pairs, PAIRS) == estimate_speed(singles, SINGLES)


def test_the_two_sequences_of_one_row_have_a_mask() -> None:
    assert micro_step(make_rung(2), 1, PAIRS).is_padded
    assert not micro_step(make_rung(2), 1, SINGLES).is_padded


def test_scores_take_no_bytes_for_logits() -> None:
    strategy, scored = Strategy(make_rung(2), 2, 2), setting(Task.REWARD, 32)
    logits = by_formula(strategy, PAIRS, 100.0).forward[0].other_bytes
    scores = by_formula(strategy, scored, 100.0).forward[0].other_bytes
    assert logits - scores == 4 * 100 * LOSS_BYTES * (LLAMA_7B.vocabulary_size - 1)
    again = Strategy(replace(make_rung(2), gradient_checkpointing=GradientCheckpointing.ON), 2, 2)
    assert by_formula(again, scored, 100.0).backward[0].other_bytes == scores - 4 * 100 * LOSS_BYTES

"""Rehearsals for real: rank 0 of many on torch's fake process group, through build, steps, evaluation and save."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.outcome import Measured, Outcome
from autofit.domain.request import Lora, Training
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.workload import BatchShape
from autofit.inputs.model_files import read_model_files
from autofit.planning.export.deepspeed_config import engine_config
from autofit.probing.agent import Agent
from autofit.probing.protocol import Job, ProbeSpec
from tests.builders import make_request, make_rung

pytestmark = pytest.mark.slow

MODEL = Path(__file__).parents[2] / "examples/tiny-llama"
SHAPE = read_model_files(str(MODEL)).shape
PLAIN = make_rung(1)
ROWS_TOKENS = 64


def spec(folder: Path, rung: Rung, rank_count: int, *, accumulation: int = 1, is_rehearsal: bool = True) -> ProbeSpec:
    strategy = Strategy(rung, 2, accumulation)
    training = Training(learning_rate=1e30 if rung.dtype is Dtype.FP16 else None)
    rows = 2 * accumulation * rank_count
    asked = {"global_batch": rows, "eval_fraction": 0.1, "lora": Lora(r=8), "training": training}
    request = make_request(MODEL, ROWS_TOKENS, **asked)
    config = engine_config(strategy, request, SHAPE, DeviceKind.CPU)
    text = None if config is None else json.dumps(config)
    job = Job(request, strategy, text, DeviceKind.CPU, rank_count, is_rehearsal=is_rehearsal)
    shapes = (BatchShape(ROWS_TOKENS, ROWS_TOKENS),)
    name = f"{rung}-{rank_count}-{is_rehearsal}"
    return ProbeSpec(job, shapes, shapes, str(folder / name), str(folder / f"{name}.log"), 120.0, True, measure_s=0.1)


def rehearse(agent: Agent, *specs: ProbeSpec) -> tuple[Outcome, ...]:
    return agent.rehearse(specs, lambda strategy, phase: None)


def check_all_measured(agent: Agent, *asked: ProbeSpec) -> None:
    for one, outcome in zip(asked, rehearse(agent, *asked), strict=True):
        assert isinstance(outcome, Measured), outcome
        tokens = ROWS_TOKENS * 2 * one.job.strategy.gradient_accumulation * one.job.rank_count
        assert outcome.tokens_per_s * outcome.step_s == pytest.approx(tokens)


def test_any_stage_and_any_number_of_ranks_is_measured(agent: Agent, tmp_path: Path) -> None:
    check_all_measured(
        agent,
        spec(tmp_path, replace(PLAIN, zero_stage=3), 2, accumulation=3),
        spec(
            tmp_path,
            replace(PLAIN, zero_stage=3, method=Method.LORA, gradient_checkpointing=GradientCheckpointing.ON),
            64,
        ),
    )
    check_all_measured(
        agent,
        spec(tmp_path, replace(PLAIN, offload=Offload.OPTIMIZER, zero_stage=2), 8),
        spec(tmp_path, replace(PLAIN, zero_stage=0), 8, accumulation=2),
    )
    check_all_measured(
        agent,
        spec(tmp_path, replace(PLAIN, zero_stage=3, optimizer=Optimizer.ADALOMO), 8, accumulation=2),
        spec(tmp_path, replace(PLAIN, zero_stage=0, optimizer=Optimizer.LOMO), 8, accumulation=2),
    )


@pytest.fixture
def fp16() -> None:
    """DeepSpeed refuses fp16 on a CPU for which oneDNN has no kernels in it."""
    from deepspeed.accelerator.cpu_accelerator import CPU_Accelerator

    if not CPU_Accelerator().is_fp16_supported():
        pytest.skip("this CPU has no fp16: oneDNN, which DeepSpeed asks, has no kernels in it here")


@pytest.mark.usefixtures("fp16")
def test_numbers_without_meaning_end_no_rehearsal(agent: Agent, tmp_path: Path) -> None:
    """It learns its way to NaN, and nothing gives up over it."""
    check_all_measured(agent, spec(tmp_path, replace(PLAIN, zero_stage=2, dtype=Dtype.FP16), 8, accumulation=2))


@pytest.mark.parametrize("zero_stage", [0, 2])
def test_the_peak_is_that_of_a_rank_among_real_ones(agent: Agent, zero_stage: int, tmp_path: Path) -> None:
    """But for gloo's buffers."""
    rung = replace(PLAIN, zero_stage=zero_stage)
    (rehearsed,) = rehearse(agent, spec(tmp_path, rung, 2))
    probed = agent.probe(spec(tmp_path, rung, 2, is_rehearsal=False), lambda phase: None)
    assert isinstance(rehearsed, Measured)
    assert isinstance(probed, Measured)
    assert rehearsed.peak_device_bytes == pytest.approx(probed.peak_device_bytes, rel=0.03)


def test_more_ranks_leave_less_to_hold(agent: Agent, tmp_path: Path) -> None:
    few, many = rehearse(agent, spec(tmp_path, PLAIN, 2), spec(tmp_path, PLAIN, 64))
    assert isinstance(few, Measured)
    assert isinstance(many, Measured)
    held_bytes = 12 * SHAPE.parameter_count  # fp32 weights and Adam's moments; at its step it holds more for a moment
    assert few.peak_device_bytes - many.peak_device_bytes > held_bytes / 2 - held_bytes / 64

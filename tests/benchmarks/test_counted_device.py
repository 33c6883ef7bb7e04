"""The counted device computes what the CPU computes, and what it counts is what is known without it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from _counted_cases import CountedCase
from _counted_engine import CountedJob, compile_device, describe_model, measure, train
from _counted_report import counted_lines
from _counted_rows import CountedBench
from _memory_truth import Forker

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.outcome import Phase
from autofit.domain.request import Request
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.trace import MicroStep
from autofit.inputs.model_config import described_shape
from autofit.planning.export.deepspeed_config import HOST_OPTIMIZER, deepspeed_config

pytestmark = pytest.mark.slow

TINY = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 256, "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}  # fmt: skip
RANKS, TOKENS = 2, 32
WEIGHTS, HIDDEN, NORMS = 6_738_415_616, 4096, 65  # of Llama-2-7B
SMALL_BYTES = 2_000_000  # a batch, a model's buffers, what aligns a partition


@pytest.fixture(scope="module")
def forker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forker]:
    with patch.dict(os.environ):  # it tells its template what to be by this process's own
        forker = Forker(tmp_path_factory.mktemp("forker") / "log", timeout_s=300.0)
        assert forker.call(compile_device) is None
        yield forker


# --- What it computes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "offload"), [(1, Offload.NONE), (2, Offload.OPTIMIZER), (3, Offload.NONE), (3, Offload.ALL)]
)
def test_its_losses_are_those_of_the_cpu(stage: int, offload: Offload, forker: Forker, tmp_path: Path) -> None:
    """Over two optimizer steps of two micro-steps each, as rank 0 of two whose other one says what it says."""
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    counted = forker.call(measure, tiny_job(tmp_path, stage, offload, DeviceKind.CUDA))
    expected = forker.call(losses_on_cpu, tiny_job(tmp_path, stage, offload, DeviceKind.CPU))
    assert len(expected) == 4
    assert expected[0] > expected[-1] > 1  # it learns
    assert counted.losses == pytest.approx(expected, abs=1e-4)


def tiny_job(folder: Path, stage: int, offload: Offload, kind: DeviceKind) -> CountedJob:
    """Real numbers, on the device's side of DeepSpeed's configuration or on the CPU's; torch's own Adam on the host."""
    rung = Rung(
        method=Method.FULL,
        zero_stage=stage,
        offload=offload,
        gradient_checkpointing=GradientCheckpointing.OFF,
        attention=Attention.EAGER,
        dtype=Dtype.BF16,
    )
    strategy = Strategy(rung, micro_batch=1, gradient_accumulation=2)
    request = Request(str(folder), TOKENS, global_batch=2 * RANKS)
    shape = described_shape(str(folder), describe_model(request))
    config = deepspeed_config(strategy, request, shape, kind) | {HOST_OPTIMIZER: False}
    step = MicroStep(None, Attention.EAGER, GradientCheckpointing.OFF, Dtype.BF16, DeviceKind.CPU, 1, TOKENS, False)
    return CountedJob(str(folder), strategy, step, config, 0, RANKS, 10**9, is_hollow=False)


def losses_on_cpu(job: CountedJob) -> tuple[float, ...]:
    import os

    import deepspeed
    import torch

    from autofit.worker.rank import fake_process_group

    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE=str(RANKS), MASTER_ADDR="127.0.0.1", MASTER_PORT="1")
    torch.set_num_threads(1)
    fake_process_group.join(job.rank_count)
    deepspeed.init_distributed("gloo")
    return train(job, "cpu", lambda *_: None)


# --- What it counts, in a hollow run ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> CountedBench:
    return CountedBench(tmp_path_factory.mktemp("bench") / "models")


def test_what_zero_2_holds_of_7b_is_what_its_paper_says(bench: CountedBench) -> None:
    """2P and 12P/W between two steps, 4P while the flat copy is made (Rajbhandari et al., 2020; stage_1_and_2.py)."""
    row = bench.row(CountedCase("Llama-7B", "8xA100-80GB", 2, tokens=256))
    assert len(row.truths) == 2
    for truth in row.truths.values():
        assert truth.resident.device_bytes == pytest.approx(2 * WEIGHTS + 12 * WEIGHTS / 8, abs=SMALL_BYTES)
        assert truth.resident.host_bytes < SMALL_BYTES
    assert row.counted_by_phase()[Phase.INITIALIZE] == pytest.approx(4 * WEIGHTS, abs=SMALL_BYTES)
    first, *phases = counted_lines(row)
    assert first.startswith(str(row.case))
    assert len(phases) == len(row.counted_by_phase())


def test_with_everything_offloaded_the_device_holds_buckets_and_norms(bench: CountedBench) -> None:
    """The rest lies on the host: 8 bytes pinned and 12 pageable of each of the rank's parameters (stage3.py). Pinned
    blocks as torch rounds them take more."""
    row = bench.row(CountedCase("Llama-7B", "8xA100-80GB", 3, Offload.ALL, tokens=256))
    held = row.truths[0].resident
    assert held.device_bytes == pytest.approx(2 * HIDDEN**2 + 2 * NORMS * HIDDEN, abs=SMALL_BYTES)
    assert held.pinned_bytes == pytest.approx(8 * WEIGHTS / 8, abs=SMALL_BYTES)
    assert held.pageable_bytes == pytest.approx(12 * WEIGHTS / 8, abs=SMALL_BYTES)
    assert held.host_bytes == pytest.approx(held.pinned_bytes + held.pageable_bytes, abs=64 * SMALL_BYTES)
    assert held.rounded_host_bytes > 1.2 * held.host_bytes


@pytest.mark.parametrize("method", [Method.FULL, Method.LORA])
def test_one_device_alone_reduces_by_one_bucket_with_a_place_for_its_own(bench: CountedBench, method: Method) -> None:
    """Nothing overlaps there: all gradients are there before the first goes into the bucket."""
    row = bench.row(CountedCase("TinyLlama-1.1B", "1xA100-80GB", 1, method=method, tokens=256))
    for phase in (Phase.INITIALIZE, Phase.FORWARD, Phase.BACKWARD, Phase.SAVE):
        assert row.loads[phase].total_bytes == pytest.approx(row.counted_by_phase()[phase], rel=1e-3), phase
    assert row.device_error == pytest.approx(0.0, abs=1e-3)

"""What the ranks of a node really hold of its host: pinned and not, to the byte as DeepSpeed's engine does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.codec import decode
from autofit.domain.estimate import HostEstimate
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.model import ModelShape
from autofit.domain.strategy import Strategy
from autofit.planning.memory import pinned
from autofit.planning.memory.host_memory import PIECE_BYTES, PROCESS_BYTES, host_estimate
from autofit.planning.memory.offloaded import offloaded
from autofit.planning.setting import Setting

from . import llama
from .llama import SEVEN, SEVENTY, strategy

GB = 10**9
MIB = 2**20


@pytest.mark.parametrize(("asked", "exact", "rounded"), [(0, 0, 0), (3, 4, 4), (2 * MIB, 2 * MIB, 2 * MIB)])
def test_small_blocks_are_rounded_up_in_any_case(asked: int, exact: int, rounded: int) -> None:
    assert pinned.block_bytes(asked, is_exact=True) == exact
    assert pinned.block_bytes(asked, is_exact=False) == rounded


def test_large_blocks_are_rounded_and_kept_unless_torch_is_told() -> None:
    sizes = (3 * MIB, 5 * MIB, MIB)
    assert pinned.taken_bytes(sizes, is_exact=True) == 9 * MIB
    assert pinned.taken_bytes(sizes, is_exact=False) == 13 * MIB
    assert pinned.kept_bytes(sizes, is_exact=True) == MIB
    assert pinned.kept_bytes(sizes, is_exact=False) == 13 * MIB


ENGINE = [  # GB of one rank of 8: not pinned, pinned, pinned where torch rounds (the engine on a device that counts)
    (SEVEN, 2, Offload.OPTIMIZER, 6.738, 8.685, 11.006),
    (SEVEN, 3, Offload.OPTIMIZER, 10.108, 5.054, 6.442),
    (SEVEN, 3, Offload.ALL, 10.108, 6.738, 10.80),
    (SEVENTY, 3, Offload.OPTIMIZER, 103.465, 51.7, 70.9),
    (SEVENTY, 3, Offload.ALL, 103.465, 69.0, 124.5),
]


@pytest.mark.parametrize(("shape", "zero_stage", "offload", "unpinned_gb", "exact_gb", "rounded_gb"), ENGINE)
def test_what_a_rank_offloads(
    shape: ModelShape, zero_stage: int, offload: Offload, unpinned_gb: float, exact_gb: float, rounded_gb: float
) -> None:
    of = strategy(zero_stage, offload)
    exact = llama.setting(of.rung, shape)
    rounded = replace(exact, has_exact_pins=False)
    assert offloaded(of, exact).unpinned_bytes / GB == pytest.approx(unpinned_gb, rel=1e-3)
    for setting, expected_gb in ((exact, exact_gb), (rounded, rounded_gb)):
        held = host_estimate(of, setting, 0)
        assert held.pinned_bytes / 8 / GB == pytest.approx(expected_gb, rel=6e-3)
        assert held.offloaded_bytes / 8 / GB == pytest.approx(unpinned_gb + exact_gb, rel=6e-3)
        assert held.peak_bytes == held.runtime_bytes + held.unpinned_bytes + held.pinned_bytes


@pytest.mark.parametrize(("zero_stage", "beside"), [(1, 0), (2, 1.7)])
def test_only_stage_2_accumulates_on_the_host(zero_stage: int, beside: float) -> None:
    """A rank's own tensors, whole: the engine pins 8.685 GB without accumulation and 10.432 with it."""
    once = strategy(zero_stage, Offload.OPTIMIZER)
    often = replace(once, gradient_accumulation=2)
    setting = llama.setting(once.rung)
    more_bytes = offloaded(often, setting).payload_bytes - offloaded(once, setting).payload_bytes
    assert more_bytes / GB == pytest.approx(beside, abs=0.2)


def test_adapters_on_a_large_model_need_little_of_the_host() -> None:
    """Each rank maps the files and copies one tensor at a time: W copies of 138 GB were charged once."""
    rung = llama.rung(3, method=Method.LORA)
    scene = llama.setting(rung, SEVENTY)
    held = host_estimate(Strategy(rung, 1, 1), scene, 0)
    runtime = next(iter(PROCESS_BYTES.values())) * 8
    assert held.peak_bytes == runtime + 8 * 2 * 32000 * 8192  # one tensor on each rank
    assert held.mapped_bytes == 2 * SEVENTY.parameter_count
    assert held.offloaded_bytes == 0


def test_a_checkpoint_copies_a_devices_states_rank_by_rank() -> None:
    """fp32 states a rank, the first one's 16-bit parameters; what lies on the host is written from there."""
    kept, moved = strategy(2), strategy(2, Offload.OPTIMIZER)
    setting = llama.setting(kept.rung)
    part, whole = SEVEN.parameter_count // 8, SEVEN.parameter_count
    assert host_estimate(kept, setting, 0).unpinned_bytes == 2 * whole + 7 * 4 * part
    assert host_estimate(moved, setting, 0).unpinned_bytes == 8 * 8 * part + 2 * whole


def test_the_ranks_of_a_node_write_their_own_parts_of_a_tensor() -> None:
    """At most a piece of it at a time; of several nodes the first rank writes."""
    stage_3 = strategy(3, Offload.ALL)
    saved = {count: host_estimate(stage_3, scene, 0).unpinned_bytes for count, scene in nodes(stage_3, 1, 2).items()}
    part, largest = SEVEN.parameter_count // 8, 32000 * 4096
    assert saved[1] == pytest.approx(8 * (12 * part + 2 * largest // 8), rel=1e-4)
    assert saved[2] == pytest.approx(4 * 12 * part + PIECE_BYTES, rel=1e-4)


def nodes(of: Strategy, *counts: int) -> dict[int, Setting]:
    """Eight ranks on so many nodes."""
    scene = llama.setting(of.rung)
    (node,) = scene.hardware.nodes
    return {
        count: replace(
            scene, hardware=replace(scene.hardware, nodes=(replace(node, devices=node.devices[: 8 // count]),) * count)
        )
        for count in counts
    }


def test_stage_3_passes_its_partition_through_the_host_at_the_start() -> None:
    """70B on 16 ranks: 2 bytes of 4.3 billion each, against 4 bytes of a sub-group when it is saved."""
    stage_3 = strategy(3)
    held = host_estimate(stage_3, llama.setting(stage_3.rung, SEVENTY, ranks=16), 0)
    part = SEVENTY.parameter_count // 16
    assert held.unpinned_bytes == pytest.approx(16 * max(2 * part, 4 * (10**9 + 32000 * 8192 // 16)), rel=1e-3)


def test_an_estimate_that_was_written_before_is_still_read() -> None:
    before = {"type": "HostEstimate", "runtime_bytes": 3, "weights_bytes": 4, "offloaded_bytes": 5}
    assert decode(HostEstimate, before) == HostEstimate(3, offloaded_bytes=5)

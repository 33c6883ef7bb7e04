"""Which strategy a full run goes on with that ran out of memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.checkpoint import Checkpoint
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.pins import Pins
from autofit.domain.outcome import OutOfMemory, Place
from autofit.domain.request import Lora
from autofit.domain.strategy import Rung, Strategy
from autofit.planning.plan.step_down import Lighter, NothingLighter, step_down
from autofit.planning.setting import Setting
from autofit.planning.space.ladder_builder import estimate_of
from tests.builders import make_rung
from tests.planning import simulated as sim

GC, OFF = GradientCheckpointing.ON, GradientCheckpointing.OFF
DEVICE, HOST = sim.out_of_memory(), sim.out_of_memory(place=Place.HOST)


def of(rung: Rung, micro_batch: int, accumulation: int | None = None) -> Strategy:
    """Of a global batch of 32 on 8 ranks."""
    return Strategy(rung, micro_batch, accumulation or 4 // micro_batch)


def checkpoint(zero_stage: int, lora: Lora | None = None, rank_count: int = 8) -> Checkpoint:
    return Checkpoint("run/checkpoints/checkpoint-4", 4, rank_count, zero_stage, Dtype.BF16, lora)


def path(failed: Strategy, setting: Setting, there: Checkpoint | None, end: OutOfMemory = DEVICE) -> list[Strategy]:
    """All that is gone on with, one after the other, where each of them fails, too."""
    tried = [failed]
    while isinstance(found := step_down(tried[-1], end, setting, there, tried), Lighter):
        assert found.strategy not in tried
        tried.append(found.strategy)
    return tried[1:]


def free(gb: float = 80, **pins: object) -> Setting:
    return sim.setting(sim.hardware(memory_gb=gb), pins=Pins(**pins))


def test_the_nearest_comes_first_and_every_one_needs_less() -> None:
    """Nothing fits by its estimate, so that it goes down one by one."""
    setting = free(gb=5)
    found = path(of(make_rung(1), 4), setting, checkpoint(1))
    assert [(one.micro_batch, one.gradient_accumulation) for one in found[:2]] == [(2, 2), (1, 4)]
    assert found[2].rung == make_rung(1, gradient_checkpointing=GradientCheckpointing.EVERY_2)
    turned = [one.rung for one in found[2:]]
    assert turned.index(make_rung(1, gradient_checkpointing=GC)) > 0
    offloads = [rung.offload for rung in turned]
    assert offloads.index(Offload.OPTIMIZER) > [rung.gradient_checkpointing for rung in turned].index(GC)
    assert found[-1].rung.zero_stage == 2
    assert found[-1].rung.offload is Offload.OPTIMIZER
    peaks = [estimate_of(one, setting).memory.peak_bytes for one in found]
    assert peaks == sorted(peaks, reverse=True)


def test_what_is_estimated_to_fit_is_preferred_to_what_is_nearer() -> None:
    setting = free(gb=45)
    failed = of(make_rung(2), 4)
    found = step_down(failed, DEVICE, setting, checkpoint(2))
    assert isinstance(found, Lighter)
    assert estimate_of(found.strategy, setting).memory.peak_bytes < setting.device_memory_bytes
    half = of(make_rung(2), 2)
    assert estimate_of(half, setting).memory.peak_bytes > setting.device_memory_bytes
    assert found.strategy != half


def test_what_is_pinned_stays() -> None:
    setting = free(micro_batch=4, gradient_checkpointing=OFF, offload=Offload.NONE, zero_stage=1)
    found = step_down(of(make_rung(1), 4), DEVICE, setting, checkpoint(1))
    assert found == NothingLighter(
        "no rung is left that needs less: the micro-batch is 4, which is pinned; --gradient-checkpointing off is "
        "pinned; --offload none is pinned; --zero-stage 1 is pinned; the checkpoint is of ZeRO-1"
    )
    found = step_down(of(make_rung(1), 4), DEVICE, free(micro_batch=4), checkpoint(1))
    assert isinstance(found, Lighter)
    assert found.strategy.micro_batch == 4


@pytest.mark.parametrize("optimizer", [Optimizer.ADAMW, Optimizer.ADAMW_8BIT])
@pytest.mark.parametrize("method", [Method.FULL, Method.LORA])
def test_what_is_trained_and_how_never_changes(method: Method, optimizer: Optimizer) -> None:
    rung = make_rung(2, method=method, optimizer=optimizer)
    lora = None if method is Method.FULL else Lora()
    for there in (checkpoint(2, lora), None):
        found = path(of(rung, 4), free(gb=5), there)
        assert found
        assert {(one.rung.method, one.rung.optimizer, one.rung.dtype, one.rung.quantization) for one in found} == {
            (rung.method, rung.optimizer, rung.dtype, rung.quantization)
        }
        assert {one.micro_batch * one.gradient_accumulation for one in found} == {4}


@pytest.mark.parametrize(("stage", "reached"), [(0, {0}), (1, {1, 2}), (2, {2}), (3, {3})])
def test_a_checkpoint_binds_the_stage(stage: int, reached: set[int]) -> None:
    setting = free(gb=3)
    bound = path(of(make_rung(stage), 1), setting, checkpoint(stage))
    assert {one.rung.zero_stage for one in bound} == reached
    without = path(of(make_rung(stage), 1), setting, None)
    assert without[-1].rung.zero_stage == 3
    assert without[-1].rung.offload is Offload.ALL


def test_on_one_device_offload_takes_the_stage_that_carries_it() -> None:
    setting = sim.setting(sim.hardware(1, 10), pins=Pins())
    found = path(
        Strategy(make_rung(1, gradient_checkpointing=GradientCheckpointing.OFFLOAD), 1, 32), setting, checkpoint(1)
    )
    assert [(one.rung.zero_stage, one.rung.offload) for one in found] == [(2, Offload.OPTIMIZER)]


def test_a_host_that_lacks_memory_has_less_moved_to_it() -> None:
    setting = free(gb=80)
    failed = of(make_rung(2, offload=Offload.OPTIMIZER, gradient_checkpointing=GradientCheckpointing.OFFLOAD), 1)
    found = path(failed, setting, checkpoint(2), HOST)
    assert found
    hosts = [estimate_of(one, setting).memory.host_bytes for one in (failed, *found)]
    assert hosts == sorted(hosts, reverse=True)
    assert len(set(hosts)) == len(hosts)
    assert found[-1].rung.offload is Offload.NONE
    assert all(estimate_of(one, setting).memory.peak_bytes < setting.device_memory_bytes for one in found)


def test_a_host_that_lacks_memory_without_offload_has_nothing_to_step_away_from() -> None:
    found = step_down(of(make_rung(2), 1), HOST, free(), checkpoint(2))
    assert found == NothingLighter(
        "no rung is left that needs less host memory and fits the device: it ran with no offload"
    )


def test_the_host_of_a_cpu_rank_is_its_device() -> None:
    setting = sim.setting(sim.hardware(8, 80, capability=None, kind=DeviceKind.CPU))
    found = step_down(of(make_rung(2), 4), HOST, setting, checkpoint(2))
    assert isinstance(found, Lighter)
    assert found.strategy.rung.offload is Offload.NONE


def test_shared_memory_steps_nowhere() -> None:
    end = replace(DEVICE, place=Place.SHARED)
    assert isinstance(step_down(of(make_rung(2), 4), end, free(), None), NothingLighter)


def test_what_changes_is_said_in_words() -> None:
    found = step_down(of(make_rung(2), 4), DEVICE, free(gb=5), None)
    assert isinstance(found, Lighter)
    assert found.change == "half the micro-batch"
    found = step_down(of(make_rung(2), 1), DEVICE, free(gb=5), None)
    assert isinstance(found, Lighter)
    assert found.change == "gradient checkpointing of every second layer"

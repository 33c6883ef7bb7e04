"""What the device keeps of an offloaded optimizer: as much as surely fits, and never more."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.pins import Pins
from autofit.domain.strategy import Strategy
from autofit.planning.export.deepspeed_config import deepspeed_config
from autofit.planning.memory.device_share import sized_for, why_undivided
from autofit.planning.memory.interval import HEADROOM
from autofit.planning.memory.offloaded import offloaded
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.memory.states import model_states, part_count
from autofit.planning.optimizer_split import OptimizerSplit
from autofit.planning.setting import Setting
from autofit.planning.space.axes import settle
from autofit.planning.space.ladder_builder import build_ladder
from autofit.planning.speed.step_time import estimate_speed
from tests.builders import LLAMA_7B, make_device, make_hardware, make_host, make_request, make_rung

PARTIAL = Strategy(make_rung(3, offload=Offload.PARTIAL, gradient_checkpointing=GradientCheckpointing.ON), 1, 1)
WHOLE = replace(PARTIAL, rung=replace(PARTIAL.rung, offload=Offload.OPTIMIZER))
NONE = replace(PARTIAL, rung=replace(PARTIAL.rung, offload=Offload.NONE))


def setting(memory_gb: float, ranks: int = 8, **asked: object) -> Setting:
    devices = [make_device(index, DeviceKind.CUDA, memory_gb=memory_gb) for index in range(ranks)]
    hardware = make_hardware(devices=devices, host=make_host(2000))
    return Setting(make_request(tokens=512, global_batch=ranks, **asked), hardware, LLAMA_7B, 512)


def split_of(scene: Setting) -> OptimizerSplit:
    found = sized_for(PARTIAL, scene).split
    assert found is not None
    return found


@pytest.mark.parametrize("ranks", [2, 8])
def test_the_share_grows_with_memory_from_nothing_to_all_but_one_sub_group(ranks: int) -> None:
    shares = [split_of(setting(memory_gb, ranks)).device_groups for memory_gb in range(4, 100, 2)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == len(split_of(setting(8, ranks)).counts) - 1
    assert len(set(shares)) > 5


@pytest.mark.parametrize("memory_gb", range(10, 60, 3))
def test_it_is_the_largest_that_surely_fits(memory_gb: int) -> None:
    scene = setting(memory_gb)
    limit_bytes = (1 - HEADROOM) * scene.device_memory_bytes
    sized = sized_for(PARTIAL, scene)
    split = sized.split
    assert split is not None
    whole_bytes = estimate_memory(WHOLE, sized_for(WHOLE, scene)).high_bytes
    assert estimate_memory(PARTIAL, sized).high_bytes <= max(limit_bytes, whole_bytes)
    if whole_bytes <= limit_bytes and split.device_groups + 1 < len(split.counts):
        more = replace(sized, split=replace(split, device_groups=split.device_groups + 1))
        assert estimate_memory(PARTIAL, more).high_bytes > limit_bytes


@pytest.mark.parametrize("group_count", [2, 5, 34, 82])
def test_deepspeed_divides_by_the_ratio_as_was_meant(group_count: int) -> None:
    """As `_create_fp32_partitions` in runtime/zero/stage3.py does; a sub-group more or less than expected never brings
    the device one more, but beside the last."""
    for device_groups in range(group_count):
        ratio = OptimizerSplit(1, (1,) * group_count, device_groups).ratio
        assert int((1 - ratio) * group_count) == device_groups
        assert int((1 - ratio) * (group_count - 1)) <= device_groups
        if device_groups < 0.9 * group_count - 1:
            assert int((1 - ratio) * (group_count + 1)) <= device_groups


def test_what_is_estimated_is_what_deepspeed_is_told() -> None:
    sized = sized_for(PARTIAL, setting(20))
    assert sized.split is not None
    assert sized.split.device_groups > 0
    told = deepspeed_config(PARTIAL, sized.request, LLAMA_7B, DeviceKind.CUDA, sized.bucket_elements, sized.split)
    zero = told["zero_optimization"]
    assert isinstance(zero, dict)
    assert zero["sub_group_size"] == sized.split.sub_group_size
    assert zero["offload_optimizer"] == {"device": "cpu", "pin_memory": True, "ratio": sized.split.ratio}


def test_nothing_of_a_split_is_told_where_nothing_is_divided() -> None:
    sized = sized_for(WHOLE, setting(20))
    assert sized.split is None
    assert "ratio" not in str(deepspeed_config(WHOLE, sized.request, LLAMA_7B, DeviceKind.CUDA))


def test_bytes_by_hand() -> None:
    """16 bytes on the device of each parameter that it keeps: master weight, fp32 gradient, two moments. The same ones
    are not on the host, where 2 bytes of each gradient remain."""
    scene = setting(20)
    kept = replace(split_of(scene), device_groups=10)
    sized = replace(sized_for(PARTIAL, scene), split=kept)
    whole = sized_for(WHOLE, scene)
    states, before = model_states(PARTIAL, sized), model_states(WHOLE, whole)
    assert (states.gradients_bytes, states.optimizer_bytes) == (4 * kept.device_count, 12 * kept.device_count)
    assert states.parameters_bytes == before.parameters_bytes
    part = part_count(PARTIAL.rung, sized)
    assert sum(kept.counts) == part
    assert offloaded(PARTIAL, sized).payload_bytes == 16 * (part - kept.device_count) + 2 * part


def test_the_more_the_device_keeps_the_faster_is_the_step() -> None:
    scene = setting(30)
    split = split_of(scene)
    seconds = [
        estimate_speed(PARTIAL, replace(sized_for(PARTIAL, scene), split=replace(split, device_groups=number))).step_s
        for number in range(len(split.counts))
    ]
    assert seconds == sorted(seconds, reverse=True)
    whole_s = estimate_speed(WHOLE, sized_for(WHOLE, scene)).step_s
    none_s = estimate_speed(NONE, sized_for(NONE, scene)).step_s
    assert none_s < seconds[-1] < seconds[0] == pytest.approx(whole_s)


@pytest.mark.parametrize(
    ("memory_gb", "why"),
    [
        (8, "the device has no room for a part of the optimizer"),
        (20, None),
        (60, "the device holds the whole optimizer"),
    ],
)
def test_the_rung_is_there_where_the_whole_fits_on_neither_side_better(memory_gb: int, why: str | None) -> None:
    scene = setting(memory_gb, pins=Pins(gradient_checkpointing=GradientCheckpointing.ON))
    assert why_undivided((PARTIAL,), scene) == why
    ladder = build_ladder(scene, settle(scene))
    assert any(step.rung.offload is Offload.PARTIAL for step in ladder.steps) is (why is None)
    reasons = {out.reason for out in ladder.left_out if out.rung.offload is Offload.PARTIAL}
    assert why is None or why in reasons


def test_a_pin_takes_it_even_where_the_device_holds_all() -> None:
    scene = setting(60, pins=Pins(offload=Offload.PARTIAL))
    ladder = build_ladder(scene, settle(scene))
    assert {step.rung.offload for step in ladder.steps} == {Offload.PARTIAL}

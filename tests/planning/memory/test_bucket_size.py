"""ZeRO's bucket is as large as helps, and never what keeps a strategy from fitting."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.estimate import Constants
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.method import Method
from autofit.domain.strategy import Rung, Strategy
from autofit.planning.export.deepspeed_config import deepspeed_config
from autofit.planning.memory.bucket_size import WANTED_BYTES, with_bucket
from autofit.planning.memory.interval import HEADROOM
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.parameters import parameters
from autofit.planning.setting import Setting
from tests.builders import LLAMA_7B, make_device, make_hardware, make_request, make_rung, make_shape

SMALL = make_shape("small", 8, 384, 100_000_000)
LEAST = 384**2


def setting(memory_gb: float = 80, kind: DeviceKind = DeviceKind.CUDA) -> Setting:
    devices = [make_device(index, kind, memory_gb=memory_gb) for index in range(2)]
    return Setting(make_request(tokens=128, global_batch=8), make_hardware(devices=devices), SMALL, 128)


def bucket(rung: Rung, scene: Setting) -> int:
    found = with_bucket(Strategy(rung, 1, 4), scene).bucket_elements
    assert found is not None
    return found


@pytest.mark.parametrize("kind", list(DeviceKind))
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_with_room_a_bucket_is_as_large_as_torchs_own(kind: DeviceKind, stage: int) -> None:
    assert bucket(make_rung(stage), setting(kind=kind)) == WANTED_BYTES // 2
    assert bucket(make_rung(stage, dtype=Dtype.FP32), setting(kind=kind)) == WANTED_BYTES // 4


def test_it_holds_no_more_than_what_is_trained() -> None:
    rung, scene = make_rung(2, method=Method.LORA), setting()
    trained_count = parameters(rung, scene).trained_count
    assert LEAST < trained_count < WANTED_BYTES // 2
    assert trained_count <= bucket(rung, scene) < trained_count + 1024


def test_a_large_model_has_hugging_faces() -> None:
    assert bucket(make_rung(2), replace(setting(), shape=LLAMA_7B)) == 4096**2


@pytest.mark.parametrize("kind", list(DeviceKind))
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_no_strategy_is_lost_to_its_bucket(kind: DeviceKind, stage: int) -> None:
    """Whatever the device has: what fits with the least bucket fits with the one that is taken."""
    strategy, found = Strategy(make_rung(stage), 1, 4), set()
    for percent in range(50, 600, 3):
        scene = setting(percent / 100, kind)
        has_bytes = (1 - HEADROOM) * scene.device_memory_bytes
        lean_bytes = estimate_memory(strategy, replace(scene, bucket_elements=LEAST)).high_bytes
        sized = with_bucket(strategy, scene)
        assert sized.bucket_elements is not None
        found.add(sized.bucket_elements)
        high_bytes = estimate_memory(strategy, sized).high_bytes
        assert high_bytes <= max(lean_bytes, has_bytes)
    assert {LEAST, WANTED_BYTES // 2} < found  # the edge was met, and something between


def test_what_trials_teach_changes_no_bucket() -> None:
    """Otherwise the full run would not be what was probed."""
    taught = Constants(10_000_000_000, 0, 1.5, 0.5, 0.5, fitted_from=3)
    for percent in range(50, 600, 3):
        scene = setting(percent / 100)
        assert bucket(make_rung(1), scene) == bucket(make_rung(1), replace(scene, known_constants=taught))


def test_a_setting_that_has_one_keeps_it() -> None:
    assert bucket(make_rung(2), replace(setting(), bucket_elements=LEAST)) == LEAST


def test_what_is_estimated_is_what_deepspeed_is_told() -> None:
    scene = with_bucket(Strategy(make_rung(2), 1, 4), setting())
    written = deepspeed_config(
        Strategy(make_rung(2), 1, 4), scene.request, SMALL, DeviceKind.CUDA, scene.bucket_elements
    )["zero_optimization"]
    assert isinstance(written, dict)
    assert written["reduce_bucket_size"] == written["allgather_bucket_size"] == scene.zero_sizes.reduce_bucket
    assert written["reduce_bucket_size"] == WANTED_BYTES // 2

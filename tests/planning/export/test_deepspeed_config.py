"""The configuration that the probe, the full run and plain `deepspeed` share."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.strategy import Rung, Strategy
from autofit.planning.export.deepspeed_config import deepspeed_config, offload_in
from autofit.planning.memory.buffers import bucket_elements
from autofit.planning.setting import Setting
from autofit.planning.zero_sizes import zero_sizes
from tests.builders import LLAMA_7B, make_hardware, make_request, make_rung

RUNG = make_rung(3, offload=Offload.ALL)


def config(rung: Rung, kind: DeviceKind = DeviceKind.CUDA) -> dict[str, Any]:
    written = deepspeed_config(Strategy(rung, 2, 4), make_request(tokens=512, global_batch=64), LLAMA_7B, kind)
    assert "auto" not in json.dumps(written)
    return json.loads(json.dumps(written))


def test_the_global_batch_stands() -> None:
    sizes = config(RUNG)
    assert sizes["train_batch_size"] == 64
    assert (sizes["train_micro_batch_size_per_gpu"], sizes["gradient_accumulation_steps"]) == (2, 4)


def test_only_bf16_masters_are_asked_for_and_only_adamw_is_taken_over_by_the_hosts() -> None:
    masters = {"bf16_master_weights_and_grads": True, "bf16_optimizer_states": True}
    for optimizer in (Optimizer.ADAMW_8BIT_BF16, Optimizer.ADAMW_4BIT_BF16):
        assert config(make_rung(2, optimizer=optimizer))["bf16"] == {"enabled": True, **masters}
    for optimizer in (Optimizer.ADAMW, Optimizer.ADAMW_8BIT, Optimizer.LION, Optimizer.SGD):
        written = config(make_rung(2, offload=Offload.OPTIMIZER, optimizer=optimizer))
        assert written["bf16"] == {"enabled": True}
        assert written["zero_force_ds_cpu_optimizer"] is (optimizer is Optimizer.ADAMW)


def test_stage_3_with_everything_offloaded() -> None:
    zero = config(RUNG)["zero_optimization"]
    assert zero["offload_param"] == zero["offload_optimizer"] == {"device": "cpu", "pin_memory": True}
    assert zero["reduce_bucket_size"] == 4096**2
    assert zero["stage3_param_persistence_threshold"] == 40960
    assert zero["stage3_gather_16bit_weights_on_model_save"] is True


def test_the_buckets_that_are_estimated_are_those_that_deepspeed_is_told() -> None:
    zero = config(RUNG)["zero_optimization"]
    setting = Setting(make_request(tokens=512, global_batch=64), make_hardware(8, DeviceKind.CUDA), LLAMA_7B, 512)
    assert bucket_elements(setting) == zero["reduce_bucket_size"] == zero["allgather_bucket_size"]
    assert zero_sizes(LLAMA_7B.hidden_size).config(3).items() <= zero.items()


def test_lower_stages_have_no_keys_of_stage_3() -> None:
    zero = config(replace(RUNG, zero_stage=2, offload=Offload.NONE))["zero_optimization"]
    assert zero["stage"] == 2
    assert not any(key.startswith(("stage3", "offload")) for key in zero)


def test_nothing_is_gathered_ahead_or_kept_where_the_update_is_in_the_backward_pass() -> None:
    for optimizer in (Optimizer.LOMO, Optimizer.ADALOMO):
        fused = config(make_rung(3, optimizer=optimizer))["zero_optimization"]
        assert fused["stage3_max_reuse_distance"] == fused["stage3_max_live_parameters"] == 0
        assert fused["stage3_prefetch_bucket_size"] == 0
    usual = config(make_rung(3))["zero_optimization"]
    assert usual["stage3_prefetch_bucket_size"] > 0
    assert "stage3_max_reuse_distance" not in usual


def test_a_cpu_neither_pins_nor_overlaps_nor_compiles() -> None:
    cpu = config(RUNG, DeviceKind.CPU)
    assert cpu["zero_force_ds_cpu_optimizer"] is False
    assert cpu["zero_optimization"]["overlap_comm"] is False
    assert cpu["zero_optimization"]["offload_param"]["pin_memory"] is False


@pytest.mark.parametrize(
    ("rung", "rank_count", "overlaps"),
    [
        (make_rung(1), 1, False),
        (make_rung(1), 8, True),
        (make_rung(2, offload=Offload.OPTIMIZER), 1, True),
        (make_rung(3), 1, True),
    ],
)
def test_nothing_is_sent_beside_the_backward_pass_where_nothing_is_sent(
    rung: Rung, rank_count: int, overlaps: bool
) -> None:
    """DeepSpeed's streams take 0.2 ms of the host for each gradient, of one device that keeps everything, too."""
    request = make_request(tokens=512, global_batch=8 * rank_count)
    written = deepspeed_config(Strategy(rung, 2, 4), request, LLAMA_7B, DeviceKind.CUDA)
    assert written["zero_optimization"]["overlap_comm"] is overlaps  # type: ignore[index]


def test_fp16_scales_its_loss() -> None:
    half = config(replace(RUNG, dtype=Dtype.FP16))
    assert half["fp16"] == {"enabled": True, "loss_scale": 0, "initial_scale_power": 16}
    assert half["bf16"] == {"enabled": False}
    assert config(replace(RUNG, dtype=Dtype.FP32))["fp16"] == {"enabled": False}


@pytest.mark.parametrize("offload", list(Offload))
def test_what_a_configuration_offloads_is_read_back(offload: Offload) -> None:
    """A part counts as the whole: a script is not turned to it, and its own ratio is its own affair."""
    zero = config(replace(RUNG, offload=offload))["zero_optimization"]
    assert offload_in(zero) is (Offload.OPTIMIZER if offload is Offload.PARTIAL else offload)


@pytest.mark.parametrize(
    ("sections", "offload"),
    [
        ({"offload_param": {"device": "nvme"}}, Offload.ALL),
        ({"offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "none"}}, Offload.OPTIMIZER),
        ({"offload_optimizer": {"device": "none"}, "offload_param": None}, Offload.NONE),
        ({"offload_optimizer": {}, "offload_param": "cpu"}, Offload.NONE),
    ],
)
def test_what_somebody_elses_configuration_offloads(sections: dict[str, object], offload: Offload) -> None:
    assert offload_in({"stage": 3, **sections}) is offload


def test_below_stage_3_no_parameters_are_moved() -> None:
    sections = {"offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "cpu"}}
    assert offload_in({"stage": 2, **sections}) is Offload.OPTIMIZER

"""What offload costs, against published steps of DeepSpeed: nothing was fitted to them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.estimate import SpeedEstimate
from autofit.domain.hardware import DeviceKind, Hardware, Link, Rates
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.model import ModelShape
from autofit.domain.strategy import Rung, Strategy
from autofit.hardware.host import host_adam_rate
from autofit.planning.setting import Setting
from autofit.planning.speed.offloading import link_bytes_per_s
from autofit.planning.speed.step_time import estimate_speed
from tests.builders import LLAMA_7B, make_hardware, make_host, make_request, make_rung

A100 = Rates(312e12, 312e12, 19.5e12, 2039e9, 32e9, 300e9, 400)
A100_40 = replace(A100, memory_bytes_per_s=1555e9)
A800 = replace(A100, device_link_bytes_per_s=200e9)
QWEN_1_5B = ModelShape("Qwen2.5-1.5B", "qwen2", 28, 1536, 12, 2, 128, 8960, 151936, 1_543_714_304)
QWEN_3B = ModelShape("Qwen2.5-3B", "qwen2", 36, 2048, 16, 2, 128, 11008, 151936, 3_085_938_688)

FULL = make_rung(2)
LORA = make_rung(3, method=Method.LORA)
CHECKPOINTED = make_rung(3, gradient_checkpointing=GradientCheckpointing.ON, attention=Attention.FLASH_2)


def machine(count: int = 8, *, rates: Rates = A100, cores: int = 96) -> Hardware:
    host = make_host(1000, core_count=cores, adam_parameters_per_s=host_adam_rate(cores))
    devices = {"memory_gb": 80, "compute_capability": (8, 0), "rates": rates}
    return make_hardware(count, DeviceKind.CUDA, host=host, link=Link.NVLINK, **devices)


def setting(
    hardware: Hardware | None = None, *, tokens: int = 2048, global_batch: int = 64, shape: ModelShape = LLAMA_7B
) -> Setting:
    return Setting(make_request(tokens=tokens, global_batch=global_batch), hardware or machine(), shape, tokens)


def speed(rung: Rung, scene: Setting, micro_batch: int = 1) -> SpeedEstimate:
    accumulation = scene.request.global_batch // (scene.rank_count * micro_batch)
    return estimate_speed(Strategy(rung, micro_batch, accumulation), scene)


def offloaded(rung: Rung, offload: Offload = Offload.OPTIMIZER) -> Rung:
    return replace(rung, offload=offload)


@pytest.mark.parametrize(("shape", "step_s"), [(QWEN_1_5B, 1.365), (QWEN_3B, 2.497)], ids=["1.5B", "3B"])
def test_published_steps_with_a_thread_on_each_core(shape: ModelShape, step_s: float) -> None:
    """deepspeedai/DeepSpeed, blogs/zenflow-corebinding: ZeRO-2, 2 × A100-40GB, 128 cores, micro-batch 4, 512 tokens;
    bound to cores, without overlap."""
    scene = setting(machine(2, rates=A100_40, cores=128), tokens=512, global_batch=8, shape=shape)
    assert 0.7 < speed(offloaded(FULL), scene, 4).step_s / step_s < 1.1


def test_the_published_price_of_offload() -> None:
    """The same page: 1.5B takes 1365 ms instead of 240, 5.7 times as long."""
    scene = setting(machine(2, rates=A100_40, cores=128), tokens=512, global_batch=8, shape=QWEN_1_5B)
    assert 5.7 / 1.6 < speed(offloaded(FULL), scene, 4).step_s / speed(FULL, scene, 4).step_s < 5.7 * 1.6


@pytest.mark.parametrize(
    ("zero_stage", "offload", "micro_batch", "rows_per_s", "without"),
    [(2, Offload.OPTIMIZER, 1, 1.81, 4.19), (3, Offload.OPTIMIZER, 2, 2.05, 4.45), (3, Offload.ALL, 4, 2.06, 4.45)],
)
def test_what_offload_adds_to_published_steps_with_one_thread_a_rank(
    zero_stage: int, offload: Offload, micro_batch: int, rows_per_s: float, without: float
) -> None:
    """LLaMA-7B, 8 × A800, 64 cores, global batch 64 (gist.github.com/chenyaofo/d4cd6a20ab4b95cb3a49491747e2139a): what
    eight threads take, one a rank as torchrun starts them; DeepSpeed's launcher would start as many as there are
    cores."""
    rung = offloaded(replace(CHECKPOINTED, zero_stage=zero_stage), offload)
    added_s = 64 / rows_per_s - 64 / without

    def predicted_s(cores: int) -> float:
        return speed(rung, setting(machine(rates=A800, cores=cores), tokens=4096), micro_batch).offload_s

    assert predicted_s(8) == pytest.approx(added_s, rel=0.2)
    assert predicted_s(64) < added_s / 3


def test_adapters_are_offloaded_nearly_for_nothing() -> None:
    scene = setting(tokens=256, global_batch=8)
    assert speed(offloaded(LORA), scene).step_s < 1.1 * speed(LORA, scene).step_s
    assert speed(offloaded(replace(LORA, method=Method.FULL)), scene).step_s > 4 * speed(LORA, scene).step_s


@pytest.mark.parametrize("tokens", [64, 8192])
def test_offloaded_parameters_go_up_for_each_pass(tokens: int) -> None:
    """A rank's share of 2P bytes at 12.8 GB/s, forward and, but for what is kept, backward."""
    once_s = 2 * LLAMA_7B.parameter_count / 8 / 12.8e9
    scene = setting(tokens=tokens, global_batch=8)
    optimizer, everything = (speed(offloaded(LORA, one), scene) for one in (Offload.OPTIMIZER, Offload.ALL))
    assert once_s < everything.offload_s - optimizer.offload_s < 2 * once_s


@pytest.mark.parametrize(("zero_stage", "down_bytes"), [(1, 4), (2, 4), (3, 8)])
def test_gradients_go_down_behind_the_backward_pass(zero_stage: int, down_bytes: int) -> None:
    """In fp32; ZeRO-3 brings 16 bits down and up again before that. Where nothing hides them they are the whole
    difference that a faster link makes, with the weights that go up."""
    rung, parameters = offloaded(replace(FULL, zero_stage=zero_stage)), LLAMA_7B.parameter_count
    short = setting(machine(1, rates=replace(A100, host_link_bytes_per_s=1e9)), tokens=64, global_batch=1)
    endless = setting(machine(1, rates=replace(A100, host_link_bytes_per_s=1e15)), tokens=64, global_batch=1)
    link_s = speed(rung, short).offload_s - speed(rung, endless).offload_s
    assert link_s == pytest.approx((down_bytes + 2) * parameters / 0.8e9, rel=0.03)


@pytest.mark.parametrize("tokens", [64, 2048, 16384])
@pytest.mark.parametrize("method", list(Method))
def test_more_offload_is_never_faster(tokens: int, method: Method) -> None:
    scene, rung = setting(tokens=tokens), make_rung(3, method=method)
    steps_s = [speed(offloaded(rung, one), scene, 8).step_s for one in Offload]
    assert steps_s == sorted(steps_s)


def test_eight_devices_share_four_links_to_the_host() -> None:
    """16 of a DGX-2 attained 3 GB/s each over PCIe 3.0 (ZeRO-Infinity, 2021, figure 2b)."""
    pcie_3 = replace(A100, host_link_bytes_per_s=16e9)
    alone, eight, sixteen = (link_bytes_per_s(setting(machine(count)), pcie_3) for count in (4, 8, 16))
    assert (alone, eight) == (12.8e9, 6.4e9)
    assert sixteen == pytest.approx(3e9, rel=0.1)


def test_the_hosts_step_is_the_same_however_many_devices_share_it() -> None:
    one, eight = (setting(machine(count), tokens=64, global_batch=count) for count in (1, 8))
    rung = offloaded(FULL)
    assert speed(rung, eight).offload_s == pytest.approx(speed(rung, one).offload_s, rel=0.3)


def test_fp16_is_looked_through_on_the_host_under_zero_3_only() -> None:
    def factor(zero_stage: int) -> float:
        bf16 = offloaded(replace(FULL, zero_stage=zero_stage))
        scene = setting(machine(1), tokens=64, global_batch=1)
        return speed(replace(bf16, dtype=Dtype.FP16), scene).offload_s / speed(bf16, scene).offload_s

    assert factor(2) == 1
    assert 1.05 < factor(3) < 1.2

"""Known truths of training speed. Published figures are for checking: nothing was fitted to them."""

from dataclasses import replace

import pytest

from autofit.domain.estimate import Estimate
from autofit.domain.hardware import DeviceKind, Hardware, Link, Rates
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import BF16_MASTERS, Optimizer
from autofit.domain.outcome import Measured, OutOfMemory, Phase, Place
from autofit.domain.request import Lora
from autofit.domain.strategy import Strategy
from autofit.domain.trace import MicroStep, Moment, SdpaKernel, Trace, Work
from autofit.domain.trial import Trial
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.optimizer_states import SPAN_ELEMENTS
from autofit.planning.setting import Setting
from autofit.planning.speed import host_time
from autofit.planning.speed.attention import attention_flop_per_s
from autofit.planning.speed.basis import speed_basis
from autofit.planning.speed.step_time import calibrate_speed, estimate_speed
from tests.builders import GB, LLAMA_7B, make_hardware, make_host, make_request, make_rung, make_shape

A100 = Rates(312e12, 312e12, 19.5e12, 2039e9, 32e9, 300e9, 400)
A100_PCIE = Rates(312e12, 312e12, 19.5e12, 1935e9, 32e9, None, 300)
H100 = Rates(989.5e12, 989.5e12, 67e12, 3350e9, 64e9, 450e9, 700)
V100 = Rates(None, 125e12, 15.7e12, 900e9, 16e9, 150e9, 300)

FULL = make_rung(2)
LORA = replace(FULL, method=Method.LORA)
CHECKPOINTED = replace(FULL, gradient_checkpointing=GradientCheckpointing.ON)


def machine(rates=A100, count=8, *, nodes=1, kind=DeviceKind.CUDA, network=None, cores=96, capability=(8, 0)):
    link = {DeviceKind.CPU: Link.HOST}.get(kind, Link.NVLINK if rates and rates.device_link_bytes_per_s else Link.PCIE)
    host = make_host(1000, core_count=cores, adam_parameters_per_s=4e9)
    one = make_hardware(count, kind, memory_gb=80, host=host, link=link, compute_capability=capability, rates=rates)
    return Hardware((replace(one.nodes[0], network_bytes_per_s=network),) * nodes)


def scene(hardware=None, *, tokens=2048, global_batch=64, **changes):
    request = make_request(tokens=tokens, global_batch=global_batch)
    return Setting(request, hardware or machine(), LLAMA_7B, tokens, **changes)


def strategy(rung, micro_batch=1, *, ranks=8, global_batch=64):
    return Strategy(rung, micro_batch, global_batch // (ranks * micro_batch))


def speed(rung, micro_batch=1, setting=None):
    setting = setting or scene()
    made = strategy(rung, micro_batch, ranks=setting.rank_count, global_batch=setting.request.global_batch)
    return estimate_speed(made, setting)


def slowdown(rung, other, micro_batch=1, setting=None):
    """Time per token of `rung` in units of `other`'s."""
    return speed(other, micro_batch, setting).tokens_per_s / speed(rung, micro_batch, setting).tokens_per_s


def stage(number, rung=FULL, **changes):
    return replace(rung, zero_stage=number, **changes)


def test_the_parts_are_a_whole_step():
    estimate = speed(stage(3, CHECKPOINTED), 2)

    assert estimate.tokens_per_step == 64 * 2048
    assert min(estimate.compute_s, estimate.communication_s, estimate.update_s) > 0
    assert estimate.offload_s == 0
    assert estimate.is_absolute


@pytest.mark.parametrize("rates", [A100, V100], ids=["A100", "V100"])
@pytest.mark.parametrize("micro_batch", [1, 4])
def test_checkpointing_costs_20_to_30_percent(rates, micro_batch):
    setting = scene(machine(rates))
    rung = replace(FULL, dtype=Dtype.FP16)

    assert (
        1.2 < slowdown(replace(rung, gradient_checkpointing=GradientCheckpointing.ON), rung, micro_batch, setting) < 1.3
    )


@pytest.mark.parametrize("is_checkpointing", [False, True])
def test_lora_is_faster_per_token(is_checkpointing):
    full = replace(FULL, gradient_checkpointing=GradientCheckpointing(is_checkpointing))

    assert 0.6 < slowdown(replace(full, method=Method.LORA), full) < 0.9


@pytest.mark.parametrize("micro_batch", [1, 2, 8])
def test_zero_3_is_nearly_free_over_nvlink(micro_batch):
    assert 0.99 < slowdown(stage(3), stage(2), micro_batch) < 1.1


def test_zero_3_is_slow_over_pcie():
    assert slowdown(stage(3), stage(2), 1, scene(machine(A100_PCIE))) > 1.15


def test_zero_1_talks_once_a_step():
    pcie = scene(machine(A100_PCIE))

    assert speed(stage(1), 1, pcie).communication_s < speed(stage(2), 1, pcie).communication_s / 2
    assert speed(stage(1), 8, pcie).communication_s == pytest.approx(speed(stage(2), 8, pcie).communication_s)


def test_of_small_buckets_gloo_pays_for_each_in_every_micro_batch_of_zero_2():
    """Two CPU ranks move as many bytes of 14 M parameters in 95 buckets as in 6: four micro-batches under ZeRO-2, one
    under ZeRO-1."""
    cpu, request = machine(None, 2, kind=DeviceKind.CPU, cores=2), make_request(tokens=256, global_batch=32)

    def seconds_of_buckets(stage):
        small, large = (
            speed(make_rung(stage), 4, Setting(request, cpu, make_shape("tiny", 6, hidden, 14_000_000), 256))
            for hidden in (384, 1536)
        )
        return small.communication_s - large.communication_s

    assert seconds_of_buckets(1) > 3 * 89 * 0.15e-3
    assert seconds_of_buckets(2) == pytest.approx(seconds_of_buckets(1) * 9 / 3)


def test_lora_hardly_talks_but_gathers():
    pcie = scene(machine(A100_PCIE))

    assert speed(stage(2, LORA), 1, pcie).communication_s < 0.01 * speed(stage(2), 1, pcie).communication_s
    assert speed(stage(3, LORA), 1, pcie).communication_s > speed(stage(2), 1, pcie).communication_s / 2


@pytest.mark.parametrize("micro_batch", [1, 8])
def test_offload_is_the_slowest(micro_batch):
    rung = stage(3, CHECKPOINTED)
    optimizer, everything = replace(rung, offload=Offload.OPTIMIZER), replace(rung, offload=Offload.ALL)

    assert slowdown(optimizer, rung, micro_batch) > 1.3
    assert slowdown(everything, optimizer, micro_batch) > 1


def test_offloaded_adapters_cost_little():
    assert slowdown(replace(LORA, offload=Offload.OPTIMIZER), LORA, 8) < 1.05


def test_host_adam_is_as_published():
    """Ren et al., ZeRO-Offload, 2021, table 4: 10 billion parameters in 2.57 s, by Adam alone."""
    shape = replace(LLAMA_7B, parameter_count=10 * 10**9)
    setting = replace(scene(machine(count=1), global_batch=1), shape=shape)

    assert 2.57 < speed(replace(FULL, offload=Offload.OPTIMIZER), 1, setting).offload_s < 3 * 2.57


@pytest.mark.parametrize("rung", [FULL, LORA, stage(3), stage(3, CHECKPOINTED, offload=Offload.ALL)], ids=str)
@pytest.mark.parametrize("rates", [A100, A100_PCIE, V100, None], ids=["A100", "PCIe", "V100", "unknown"])
def test_larger_micro_batches_are_not_slower(rung, rates):
    speeds = [speed(rung, rows, scene(machine(rates), tokens=512)).tokens_per_s for rows in (1, 2, 4, 8)]

    assert speeds == sorted(speeds)


def test_small_micro_batches_waste_a_gpu():
    assert slowdown(FULL, FULL, 1, scene(tokens=64)) == 1
    assert speed(FULL, 8, scene(tokens=64)).tokens_per_s > 2 * speed(FULL, 1, scene(tokens=64)).tokens_per_s


def test_kernels_take_time_to_start():
    """16 layers of a tiny model wait for Python, whatever the device does."""
    tiny = replace(LLAMA_7B, hidden_size=64, intermediate_size=128, layer_count=16, parameter_count=10**6)
    setting = replace(scene(machine(count=1), tokens=32, global_batch=1), shape=tiny)

    each_s = host_time.FORWARD_KERNEL_S + 2 * host_time.BACKWARD_KERNEL_S + 3 * host_time.LAUNCH_S
    expected_s = 16 * 40 * each_s
    assert speed(stage(1), 1, setting).compute_s == pytest.approx(expected_s, rel=0.01)


def test_gradients_take_time_of_the_host_and_most_where_each_goes_to_a_stream_of_its_own():
    """ZeRO-1's at the last micro-step alone, ZeRO-2's at each."""
    tiny = replace(LLAMA_7B, hidden_size=64, intermediate_size=128, layer_count=16, parameter_count=10**6)

    def told(rung, accumulation, gpus):
        hardware = machine(count=gpus)
        request = make_request(tokens=32, global_batch=gpus * accumulation)
        return speed(rung, 1, replace(scene(hardware), request=request, shape=tiny, worst_tokens=32))

    alone = told(stage(1), 2, 1)
    count = round(alone.update_s / host_time.REDUCED_S)
    assert 16 * 7 <= count <= 16 * 9 + 3
    for accumulation in (1, 2):
        plain = told(stage(1), accumulation, 1).compute_s
        streamed_s = count * (host_time.REDUCED_S + host_time.STREAMED_S)
        assert told(stage(1), accumulation, 8).compute_s - plain == pytest.approx(streamed_s, rel=0.01)
        again_s = told(stage(2), accumulation, 8).compute_s - plain
        expected_s = accumulation * count * (host_time.GRADIENT_S + host_time.STREAMED_S)
        assert again_s == pytest.approx(expected_s, rel=0.01)


def test_torchaos_update_is_called_span_by_span():
    """A call takes longer than the span's bytes: an H200 takes 5 ms for 67 M elements, where 0.3 would move them."""
    calls = LLAMA_7B.parameter_count / SPAN_ELEMENTS[DeviceKind.CUDA]
    for optimizer in BF16_MASTERS:
        lean = speed(make_rung(2, optimizer=optimizer), 1, scene(machine(count=1)))
        assert lean.update_s == pytest.approx(calls * host_time.SPAN_S, rel=0.01)


def test_deepspeeds_hooks_take_time_for_every_module():
    """Measured on DeepSpeed 0.19.8: 7.3 ms more for a layer of Llama, checkpointed 11, where kernels take nothing."""
    tiny = replace(LLAMA_7B, hidden_size=64, intermediate_size=128, layer_count=16, parameter_count=10**6)
    setting = replace(scene(machine(count=1), tokens=32, global_batch=1), shape=tiny)

    def layer_ms(rung):
        return 1e3 * (speed(replace(rung, zero_stage=3), 1, setting).compute_s - speed(rung, 1, setting).compute_s) / 16

    assert layer_ms(stage(1)) == pytest.approx(7.3, rel=0.03)
    assert layer_ms(stage(1, CHECKPOINTED)) == pytest.approx(9.7, rel=0.03)


@pytest.mark.parametrize(("layers", "rows_tokens", "least_ms"), [(24, 512, 70), (32, 512, 90)])
def test_short_rows_with_adapters_wait_for_python(layers, rows_tokens, least_ms):
    """Transformers with PEFT on all linear modules: some 3 ms a layer and micro-step on the host alone."""
    shape = replace(LLAMA_7B, layer_count=layers, hidden_size=1024, intermediate_size=2816, parameter_count=10**9)
    lora = Lora(target_modules=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))
    setting = replace(scene(machine(count=1), tokens=rows_tokens, global_batch=1), shape=shape)
    setting = replace(setting, request=replace(setting.request, lora=lora))
    rung = stage(1, replace(LORA, gradient_checkpointing=GradientCheckpointing.ON))

    assert least_ms < 1e3 * speed(rung, 1, setting).compute_s < 2 * least_ms


def test_v100_in_fp16_against_a100_in_bf16():
    a100 = speed(FULL, 4).tokens_per_s
    v100 = speed(replace(FULL, dtype=Dtype.FP16), 4, scene(machine(V100))).tokens_per_s

    assert 2 < a100 / v100 < 2.6


def test_bf16_without_its_units_is_slow():
    setting = scene(machine(V100))

    assert slowdown(FULL, replace(FULL, dtype=Dtype.FP16), 4, setting) > 4


def test_eager_attention_pays_for_long_rows():
    eager = replace(FULL, attention=Attention.EAGER)

    assert 1 < slowdown(eager, FULL, 1, scene(tokens=256)) < 1.15
    assert slowdown(eager, FULL, 1, scene(tokens=4096)) > 1.4
    assert slowdown(FULL, replace(FULL, attention=Attention.FLASH_2)) == 1


def mfu(estimate, tokens, peak_flop_per_s):
    attention = 12 * tokens * LLAMA_7B.hidden_size * LLAMA_7B.layer_count
    return estimate.tokens_per_s * (6 * LLAMA_7B.parameter_count + attention) / 8 / peak_flop_per_s


@pytest.mark.parametrize("micro_batch", [2, 4, 8])
def test_7b_on_8_a100_within_the_published_band(micro_batch):
    """mosaicml/llm-foundry, scripts/train/benchmarking: 7B, 8 × A100-80GB, fully sharded: MFU 54 to 64 %, tuned for it;
    transformers has more kernels that are no products."""
    assert 0.48 < mfu(speed(stage(3), micro_batch), 2048, 312e12) < 0.6


@pytest.mark.parametrize("checkpointing", [False, True])
def test_two_generations_do_not_err_apart(checkpointing):
    """The same software on both, 7B at 1024 to 2048 tokens: an H100 was 2.2 to 2.4 times as fast as an A100
    (mosaicml/llm-foundry, scripts/train/benchmarking)."""
    rung = stage(3, CHECKPOINTED if checkpointing else FULL)
    h100 = scene(machine(H100, capability=(9, 0)))

    assert 2.1 < speed(rung, 8, h100).tokens_per_s / speed(rung, 8).tokens_per_s < 2.5


@pytest.mark.parametrize(
    ("capability", "kernels", "share"),
    [((8, 0), (), 0.63), ((9, 0), (), 0.35), ((9, 0), (SdpaKernel.CUDNN,), 0.55), ((7, 0), (), 0.3), (None, (), 0.63)],
)
def test_attention_is_as_fast_as_its_kernel(capability, kernels, share):
    """Shares of the peak for long rows, half of them at 512 tokens (papers of FlashAttention-2 and 3)."""
    one = make_hardware(1, DeviceKind.CUDA, memory_gb=80, compute_capability=capability, rates=A100)
    setting = scene(one, tokens=512, traces=(replace(trace(), sdpa_kernels=kernels),))

    assert attention_flop_per_s(strategy(FULL), setting, 1e15) == pytest.approx(1e15 * share / 2)


@pytest.mark.parametrize(
    ("rung", "micro_batch", "rows_per_s"),
    [
        (stage(2), 1, 5.33),
        (stage(2, CHECKPOINTED), 1, 4.19),
        (stage(2, CHECKPOINTED), 4, 4.69),
        (stage(3), 2, 4.95),
        (stage(3, CHECKPOINTED), 2, 4.45),
        (stage(3, CHECKPOINTED), 8, 4.73),
    ],
    ids=str,
)
def test_runs_on_a800_are_predicted_too_fast_and_all_alike(rung, micro_batch, rows_per_s):
    """LLaMA-7B at 4096 tokens by transformers on DeepSpeed 0.14, 8 × A800 (A100 with 400 GB/s of NVLink), global batch
    64: gist.github.com/chenyaofo/d4cd6a20ab4b95cb3a49491747e2139a. A known error: all are predicted 1.25 to 1.55 times
    too fast, where published runs on A100 are met within 10 %."""
    setting = scene(machine(replace(A100, device_link_bytes_per_s=200e9), cores=64), tokens=4096)
    flash = replace(rung, attention=Attention.FLASH_2)

    assert 1.2 < speed(flash, micro_batch, setting).tokens_per_s / 4096 / rows_per_s < 1.6


def test_a_slow_network_decides():
    near, far = (scene(machine(nodes=2, network=network), global_batch=128) for network in (200e9, 1e9))

    assert speed(FULL, 1, far).communication_s > 10 * speed(FULL, 1, near).communication_s
    assert slowdown(stage(3), stage(2), 1, far) > 1.3


def test_an_unknown_network_makes_seconds_relative():
    assert not speed(FULL, 1, scene(machine(nodes=2), global_batch=128)).is_absolute


def test_one_device_talks_to_nobody():
    alone = scene(machine(count=1))

    assert speed(stage(3), 1, alone).communication_s == 0
    assert speed(FULL, 1, alone).update_s == pytest.approx(8 * speed(FULL).update_s)


def test_the_slowest_device_decides():
    mixed = machine()
    slow = replace(mixed.nodes[0].devices[0], rates=V100)
    mixed = Hardware((replace(mixed.nodes[0], devices=(slow, *mixed.nodes[0].devices[1:])),))
    rung = replace(FULL, dtype=Dtype.FP16)

    assert speed(rung, 1, scene(mixed)) == speed(rung, 1, scene(machine(V100)))


def test_tokens_are_real_and_time_is_of_the_padded_width():
    padded = scene(is_padded=True, mean_tokens=512.0)
    even = scene(tokens=512)

    assert speed(FULL, 1, padded).tokens_per_step == 64 * 512
    assert speed(FULL, 1, padded).compute_s == pytest.approx(speed(FULL, 1, even).compute_s)
    assert speed(FULL, 8, padded).compute_s > 1.5 * speed(FULL, 8, even).compute_s


def test_unknown_devices_give_ratios_only():
    gpu = scene(machine(None))

    assert not speed(FULL, 1, gpu).is_absolute
    assert slowdown(stage(3, offload=Offload.ALL), FULL, 1, gpu) > 1.1


def test_a_cpu_orders_what_it_can():
    cpu = scene(machine(None, 2, kind=DeviceKind.CPU, cores=2), tokens=128)

    assert not speed(FULL, 1, cpu).is_absolute
    assert slowdown(CHECKPOINTED, FULL, 4, cpu) > 1.1
    assert slowdown(LORA, FULL, 4, cpu) < 0.9
    assert slowdown(stage(3), FULL, 4, cpu) > 1
    assert speed(replace(FULL, offload=Offload.OPTIMIZER), 4, cpu).offload_s == 0


def trace(lora=None, *, flop=10**14, tokens=2048):
    of = MicroStep(lora, Attention.SDPA, GradientCheckpointing.OFF, Dtype.BF16, DeviceKind.CUDA, 1, tokens, False)
    work = Work(flop, 10**9, 10**9, 100)
    phases = (Phase.FORWARD, Phase.BACKWARD, Phase.BACKWARD, Phase.EVALUATE)
    return Trace(of, tuple(Moment(phase, 10**9, 0, work) for phase in phases), ())


def test_a_trace_goes_before_the_formula():
    small, large = (scene(traces=(trace(flop=flop),)) for flop in (10**13, 2 * 10**13))

    assert speed(FULL, 1, large).compute_s == pytest.approx(2 * speed(FULL, 1, small).compute_s, rel=0.1)
    assert speed(LORA, 1, large) == speed(LORA, 1, small)


def test_a_trace_counts_forward_and_backward_alone():
    traced = scene(traces=(trace(flop=10**14),), global_batch=8)
    efficiency, filled = traced.constants.matmul_efficiency, 2048 * 4096 / (2048 * 4096 + 2**20)
    bytes_s = 3e9 / (2039e9 * traced.constants.bandwidth_efficiency)

    assert speed(FULL, 1, traced).compute_s == pytest.approx(3e14 / (312e12 * efficiency * filled) + bytes_s)


def test_a_trace_of_the_worst_rows_is_brought_to_typical_ones():
    even = scene(traces=(trace(),))
    shorter = replace(even, mean_tokens=1024.0, is_padded=True)

    assert 0.4 < speed(FULL, 1, shorter).compute_s / speed(FULL, 1, even).compute_s < 0.6


def trial(made, setting, tokens_per_s, *, is_rehearsal=False):
    estimate = Estimate(estimate_memory(made, setting), estimate_speed(made, setting))
    return Trial(made, estimate, Measured(GB, GB, tokens_per_s, 1.0, 1.0, 0.0), is_rehearsal)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("kind", list(DeviceKind))
def test_refitting_finds_the_truth(factor, kind):
    setting = scene(machine(A100 if kind is DeviceKind.CUDA else None, 2, kind=kind))
    constants = setting.constants
    truth = replace(
        constants,
        matmul_efficiency=constants.matmul_efficiency * factor,
        bandwidth_efficiency=constants.bandwidth_efficiency * factor,
    )
    made = [strategy(rung, rows, ranks=2) for rung in (FULL, LORA, CHECKPOINTED) for rows in (1, 4)]
    true = replace(setting, known_constants=truth)
    trials = [trial(one, setting, estimate_speed(one, true).tokens_per_s) for one in made]

    fitted = calibrate_speed(constants, trials, setting)

    assert fitted.matmul_efficiency == pytest.approx(truth.matmul_efficiency, rel=1e-3)
    assert fitted.bandwidth_efficiency == pytest.approx(truth.bandwidth_efficiency, rel=1e-3)
    assert fitted.fitted_from == len(made)
    assert estimate_speed(made[0], replace(setting, known_constants=fitted)).is_absolute


def test_refitting_is_not_led_by_one_odd_trial():
    setting = scene()
    made = strategy(FULL, 4)
    predicted = estimate_speed(made, setting).tokens_per_s
    trials = [trial(made, setting, predicted * factor) for factor in (0.99, 1.0, 1.01, 0.05, 1.0)]

    assert calibrate_speed(setting.constants, trials, setting).matmul_efficiency == pytest.approx(0.75, rel=0.02)


def test_a_rehearsal_is_compared_without_communication():
    setting = scene(machine(A100_PCIE))
    made = strategy(stage(2), 4)
    predicted = estimate_speed(made, setting)
    alone = replace(predicted, communication_s=0.0)
    rehearsed = trial(made, setting, alone.tokens_per_s, is_rehearsal=True)

    fitted = calibrate_speed(setting.constants, [rehearsed], setting)

    assert predicted.communication_s > 0
    assert fitted.matmul_efficiency == pytest.approx(setting.constants.matmul_efficiency, rel=1e-3)


def test_refitting_without_a_measurement_changes_nothing():
    setting = scene()
    made = strategy(FULL)
    failed = replace(trial(made, setting, 1.0), outcome=OutOfMemory(0, Phase.FORWARD, Place.DEVICE, "no"))

    assert calibrate_speed(setting.constants, [failed], setting) == setting.constants


def test_volumes_hardly_grow_with_the_number_of_devices():
    """One collective a ring, whatever its length: volumes grow by (W-1)/W only."""
    few, many = (scene(machine(nodes=n, network=100e9), global_batch=8 * n) for n in (2, 128))

    assert speed(FULL, 1, many).communication_s < 2.1 * speed(FULL, 1, few).communication_s


def test_adapted_modules_start_kernels_of_their_own():
    tiny = replace(LLAMA_7B, hidden_size=64, intermediate_size=128, layer_count=16, parameter_count=10**6)
    setting = replace(scene(machine(count=1), tokens=32, global_batch=1), shape=tiny)
    wide = replace(setting, request=replace(setting.request, lora=Lora(target_modules=("q_proj", "k_proj", "v_proj"))))

    assert speed(LORA, 1, wide).compute_s > speed(LORA, 1, setting).compute_s


def test_a_plan_says_what_its_speeds_rest_on():
    fitted = replace(scene().constants, fitted_from=3)

    assert "within 15 %" in speed_basis(scene())
    assert "may err by a third" in speed_basis(scene(machine(V100, capability=(7, 0))))
    assert "3 trials" in speed_basis(scene(known_constants=fitted))
    assert speed_basis(scene(machine(None))) is None


LOMO = make_rung(3, optimizer=Optimizer.LOMO)


def test_nothing_hides_the_collectives_of_lomo():
    """ZeRO-3 moves P, P and T; with checkpointing LOMO gathers a third time. NVLink's 300 GB/s at 75 %, seven eighths
    of 13.5 GB a time."""
    setting, moved_s = scene(), 2 * LLAMA_7B.parameter_count * 7 / 8 / (0.75 * 300e9)
    plain, checkpointed = (
        speed(rung, 8, setting) for rung in (LOMO, replace(LOMO, gradient_checkpointing=GradientCheckpointing.ON))
    )
    assert 3 * moved_s < plain.communication_s < 4 * moved_s  # with copies, and what each collective waits for
    assert moved_s < checkpointed.communication_s - plain.communication_s < 1.35 * moved_s
    assert speed(stage(3), 8, setting).communication_s < plain.communication_s


def test_lomo_sums_whole_gradients_once_a_step_where_nothing_is_divided():
    once, moved_s = scene(), 2 * 2 * LLAMA_7B.parameter_count * 7 / 8 / (0.75 * 300e9)
    for micro_batch in (1, 8):
        assert speed(stage(0, LOMO), micro_batch, once).communication_s == pytest.approx(moved_s, rel=0.2)


def test_adalomo_talks_more_often_and_computes_more():
    lomo, adalomo = (speed(replace(LOMO, optimizer=one), 8) for one in (Optimizer.LOMO, Optimizer.ADALOMO))
    assert adalomo.communication_s > lomo.communication_s
    assert adalomo.update_s > 2 * lomo.update_s
    assert speed(stage(3), 8).update_s < lomo.update_s  # whose weights are rounded by chance


def test_where_lomo_clips_the_last_micro_batch_runs_twice():
    def clipped(optimizer, words):
        request = make_request(tokens=2048, global_batch=64, extra=words)
        return speed(replace(LOMO, optimizer=optimizer), 4, replace(scene(), request=request))

    usual = clipped(Optimizer.LOMO, ())  # two micro-batches a rank
    measured = clipped(Optimizer.LOMO, ("--max_grad_norm", "1.0"))
    assert measured.compute_s == pytest.approx(1.5 * usual.compute_s, rel=0.01)
    assert measured.communication_s == pytest.approx(1.5 * usual.communication_s)
    bounded = clipped(Optimizer.ADALOMO, ("--max_grad_norm", "1.0"))
    assert bounded.compute_s == clipped(Optimizer.ADALOMO, ()).compute_s

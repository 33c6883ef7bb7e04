"""What is planned of the optimizers in fewer bits, of Lion and of SGD, against values worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.dtype import Dtype
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import LEARNING_RATES, OPTIMIZER, PACKAGES, Optimizer
from autofit.domain.knobs.pins import Pins
from autofit.domain.strategy import Strategy
from autofit.planning.memory.offloaded import offloaded
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.memory.states import model_states
from autofit.planning.memory.step_memory import loads_outside
from autofit.planning.search.dominance import needs_no_less
from autofit.planning.setting import Setting
from autofit.planning.space.axes import settle
from autofit.planning.space.ladder_builder import build_ladder
from autofit.planning.speed.step_time import estimate_speed
from tests.builders import make_rung
from tests.planning import simulated as sim

SMALL = replace(sim.LLAMA_7B, parameter_count=1_000_000_000)
INSTALLED = frozenset(PACKAGES.values())
LEAN = [Optimizer.ADAMW_8BIT, Optimizer.ADAMW_8BIT_BF16, Optimizer.ADAMW_4BIT_BF16, Optimizer.LION, Optimizer.SGD]
PART = 125_000_000  # of eight ranks


def scene(pins: Pins | None = None, *, allow: tuple[str, ...] = (), **machine: object) -> Setting:
    made = sim.setting(sim.hardware(**machine), SMALL, pins=pins)  # type: ignore[arg-type]
    return replace(made, request=replace(made.request, allow=allow), installed=INSTALLED)


def strategy(optimizer: Optimizer, stage: int = 2, **values: object) -> Strategy:
    return Strategy(make_rung(stage, optimizer=optimizer, **values), 1, 1)


@pytest.mark.parametrize(
    ("optimizer", "each_bytes"),
    [
        (Optimizer.ADAMW, 12),
        (Optimizer.ADAMW_8BIT, 4 + 2 + 2 * 4 / 256),  # fp32 master, two codes of a byte, two scales a block
        (Optimizer.ADAMW_8BIT_BF16, 2 + 2 + 2 * 4 / 256),
        (Optimizer.ADAMW_4BIT_BF16, 2 + 1 + 2 * 4 / 128),
        (Optimizer.LION, 8),
        (Optimizer.SGD, 4),
    ],
)
def test_states_of_a_parameter(optimizer: Optimizer, each_bytes: float) -> None:
    for stage in (1, 2, 3):
        states = model_states(strategy(optimizer, stage), scene())
        assert states.optimizer_bytes == pytest.approx(each_bytes * PART, rel=1e-4)


def test_plain_torch_has_no_master_weights_and_whole_moments_of_small_tensors() -> None:
    states = model_states(strategy(Optimizer.ADAMW_8BIT, 0), scene())
    assert states.optimizer_bytes == pytest.approx((2 + 8 / 256) * 1_000_000_000, rel=1e-3)
    assert model_states(strategy(Optimizer.SGD, 0), scene()).optimizer_bytes == 0


def test_the_step_makes_a_gradient_as_wide_as_the_master_and_on_a_cpu_what_bitsandbytes_makes() -> None:
    def made(optimizer: Optimizer, kind: DeviceKind) -> int:
        setting = scene(kind=kind, capability=None if kind is DeviceKind.CPU else (8, 0), memory_gb=80)
        (step,) = [one for one in loads_outside(strategy(optimizer), setting) if one.phase.value == "step"]
        return step.buffers_bytes

    norm_bytes = made(Optimizer.ADAMW, DeviceKind.CUDA)
    assert norm_bytes >= 6 * PART  # of the largest tensor in double precision, which is an embedding here
    assert all(made(optimizer, DeviceKind.CUDA) == norm_bytes for optimizer in LEAN)
    assert made(Optimizer.ADAMW_8BIT, DeviceKind.CPU) == 24 * PART
    assert made(Optimizer.LION, DeviceKind.CPU) == 16 * PART


def test_on_the_host_lie_the_same_states_and_what_the_update_makes_there() -> None:
    adamw, lean = (
        offloaded(strategy(one, 2, offload=Offload.OPTIMIZER), scene())
        for one in (Optimizer.ADAMW, Optimizer.ADAMW_8BIT)
    )
    assert adamw.unpinned_bytes == 8 * PART
    assert lean.unpinned_bytes == pytest.approx((2 + 8 / 256 + 20) * PART, rel=1e-4)
    assert lean.pinned_sizes == adamw.pinned_sizes, "fp32 weights and gradients, as before"


def test_less_is_certainly_less_where_the_estimates_agree() -> None:
    setting = scene()
    plain = (Optimizer.ADAMW, Optimizer.LION, *LEAN[:3])
    memory = {one: estimate_memory(strategy(one), setting) for one in plain}
    for heavy, light in pairwise(plain):
        assert needs_no_less(strategy(heavy), strategy(light), memory[heavy], memory[light]), (heavy, light)
        assert not needs_no_less(strategy(light), strategy(heavy), memory[light], memory[heavy])


def test_fewer_bytes_are_updated_sooner_on_a_gpu_and_torchao_is_slow_on_a_cpu() -> None:
    def update_s(optimizer: Optimizer, setting: Setting) -> float:
        return estimate_speed(strategy(optimizer), setting).update_s

    gpu, cpu = scene(), scene(kind=DeviceKind.CPU, capability=None)
    assert update_s(Optimizer.ADAMW_8BIT, gpu) == pytest.approx(28 / 40 * update_s(Optimizer.ADAMW, gpu))
    assert update_s(Optimizer.ADAMW_4BIT_BF16, gpu) == pytest.approx(20 / 40 * update_s(Optimizer.ADAMW, gpu))
    assert update_s(Optimizer.ADAMW_8BIT_BF16, cpu) > 5 * update_s(Optimizer.ADAMW, cpu)


def test_none_is_on_the_ladder_that_nobody_asks_for_and_each_that_is_allowed() -> None:
    def optimizers(setting: Setting) -> set[Optimizer]:
        return {step.rung.optimizer for step in build_ladder(setting, settle(setting)).steps}

    assert optimizers(scene()) == {Optimizer.ADAMW}
    words = tuple(one.value for one in LEAN)
    assert optimizers(scene(allow=words)) == {Optimizer.ADAMW, *LEAN}


@pytest.mark.parametrize("optimizer", sorted(PACKAGES, key=lambda one: one.value))
def test_what_is_not_installed_is_refused_with_how_to_get_it(optimizer: Optimizer) -> None:
    lacking = replace(scene(Pins(optimizer=optimizer)), installed=frozenset())
    package = PACKAGES[optimizer]
    with pytest.raises(UsageError, match=rf"the package {package} is not installed \(pip install {package}\)"):
        settle(lacking)


def test_bf16_masters_need_a_training_in_bf16() -> None:
    with pytest.raises(UsageError, match="its master weights are bf16, and the training computes in fp16; use adamw"):
        settle(scene(Pins(optimizer=Optimizer.ADAMW_8BIT_BF16, dtype=Dtype.FP16)))
    with pytest.raises(UsageError, match="needs --zero-stage 1 or 2 or 3: only DeepSpeed's engine keeps master"):
        build_ladder(setting := scene(Pins(optimizer=Optimizer.ADAMW_4BIT_BF16, zero_stage=0)), settle(setting))


def test_adafactor_is_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="'adafactor' is not offered: it factors the moments of whole matrices"):
        OPTIMIZER.read("adafactor")


def test_every_optimizer_has_a_learning_rate_for_what_it_trains() -> None:
    for known in OPTIMIZER.values:
        excluded = {Method.LORA} if any(need.knob == "method" for need in known.needs) else set()
        assert set(LEARNING_RATES[known.value]) == set(Method) - excluded, known.word

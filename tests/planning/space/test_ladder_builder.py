"""Which rungs stand on the ladder of which machine, in which order, and why the others do not."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.knobs.attention import ATTENTION, FLASH_PACKAGE, Attention, runs_flash, why_no_flash
from autofit.domain.knobs.dtype import Dtype, supported_dtypes
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.pins import Pins
from autofit.domain.knobs.quantization import Quantization
from autofit.domain.ladder import Ladder, Step
from autofit.domain.model import Lacking, ModelFacts, ParameterGroup, Positions
from autofit.domain.plan import Verdict
from autofit.domain.request import Training
from autofit.domain.trace import Unbuildable
from autofit.planning.memory.activations import micro_step
from autofit.planning.plan.candidates import make_plan
from autofit.planning.setting import Setting
from autofit.planning.space.axes import rungs, settle
from autofit.planning.space.ladder_builder import check_asked
from tests.planning import simulated as sim

SMALL = replace(sim.LLAMA_7B, parameter_count=100_000_000)
V100 = sim.hardware(8, 32, capability=(7, 0))
CPU = sim.hardware(2, 8, capability=None, kind=DeviceKind.CPU)


def names(ladder: Ladder) -> list[str]:
    return [str(step.rung) for step in ladder.steps]


def reasons(ladder: Ladder) -> dict[str, str]:
    return {str(out.rung): out.reason for out in ladder.left_out}


def test_capability_decides_dtype_and_kernel() -> None:
    a100 = sim.hardware()
    assert supported_dtypes(a100) == (Dtype.BF16, Dtype.FP16)
    assert supported_dtypes(V100) == (Dtype.FP16,)
    assert supported_dtypes(CPU) == (Dtype.BF16, Dtype.FP32)
    assert runs_flash(a100, Dtype.BF16, {FLASH_PACKAGE})
    assert not runs_flash(a100, Dtype.BF16, ())
    assert not runs_flash(a100, Dtype.FP32, {FLASH_PACKAGE})
    assert not runs_flash(V100, Dtype.FP16, {FLASH_PACKAGE})
    assert "has 7.0" in (why_no_flash(V100, Dtype.FP16) or "")


def test_eight_devices_have_every_stage_offload_and_checkpointing_for_both_methods() -> None:
    ladder = sim.ladder(sim.setting(shape=SMALL))
    assert len([step for step in ladder.steps if not step.rung.gradient_checkpointing.is_between]) == 2 * 2 * (
        4 + 3 + 1
    )
    assert sorted(names(ladder)[:3]) == ["zero1+lora", "zero2+lora", "zero3+lora"]  # adapters outweigh this model
    speeds = [max(estimate.speed.tokens_per_s for estimate in step.estimates) for step in ladder.steps]
    assert all(one >= 0.99 * other for one, other in pairwise(speeds))
    for step in ladder.steps:
        assert all(strategy.micro_batch * strategy.gradient_accumulation * 8 == 32 for strategy in step.strategies)


def test_one_device_keeps_the_stages_that_change_something() -> None:
    scene = sim.setting(
        sim.hardware(1), SMALL, pins=Pins(method=Method.LORA, gradient_checkpointing=GradientCheckpointing.OFF)
    )
    ladder = sim.ladder(scene)
    assert names(ladder) == ["zero1+lora", "zero2+lora+offload", "zero3+lora+offload-all", "zero0+lora"]
    assert reasons(ladder)["zero3+lora"] == "its ZeRO stage divides nothing on one device"
    pinned = sim.setting(sim.hardware(1), SMALL, pins=Pins(method=Method.LORA, zero_stage=3, offload=Offload.NONE))
    assert names(sim.ladder(pinned)) == [
        "zero3+lora", "zero3+lora+gc-every-2", "zero3+lora+gc", "zero3+lora+gc-offload",
    ]  # fmt: skip


def test_offload_is_no_rung_on_a_cpu_unless_it_is_pinned() -> None:
    scene = sim.setting(CPU, SMALL)
    assert not any("offload" in name for name in names(sim.ladder(scene)))
    assert "without a GPU" in reasons(sim.ladder(scene))["zero2+gc-offload"]
    pinned = sim.setting(CPU, SMALL, pins=Pins(offload=Offload.OPTIMIZER))
    assert names(sim.ladder(pinned))
    assert all("offload" in name for name in names(sim.ladder(pinned)))


def test_the_best_kernel_stands_for_all_unless_one_is_pinned() -> None:
    ladder = sim.ladder(sim.setting(shape=SMALL), has_flash=True)
    assert {step.rung.attention for step in ladder.steps} == {Attention.FLASH_2}
    assert reasons(ladder)["zero1"] == "flash_attention_2 works here and is not slower"
    pinned = sim.ladder(sim.setting(shape=SMALL, pins=Pins(attention=Attention.EAGER)), has_flash=True)
    assert {step.rung.attention for step in pinned.steps} == {Attention.EAGER}


def test_a_v100_computes_in_fp16() -> None:
    assert {step.rung.dtype for step in sim.ladder(sim.setting(V100, SMALL)).steps} == {Dtype.FP16}


def test_what_cannot_fit_is_left_out_with_what_is_missing() -> None:
    ladder = sim.ladder(sim.setting(sim.hardware(8, 24)))
    left = {str(out.rung): out for out in ladder.left_out}
    plain = left["zero1"]
    assert plain.short_bytes is not None
    assert plain.reason.startswith("too large by")
    assert "zero3+offload" in names(ladder)


def test_a_rung_stays_whose_larger_micro_batch_alone_may_fit() -> None:
    """Before Ampere one whole row keeps all its scores, and two padded ones do not."""
    scene = sim.traced(sim.setting(V100, SMALL))
    huge = tuple(
        replace(trace, moments=tuple(replace(moment, activations_bytes=99 * sim.GB) for moment in trace.moments))
        if trace.of.micro_batch == 1
        else trace
        for trace in scene.traces
    )
    ladder = sim.ladder(replace(scene, traces=huge))
    assert names(ladder) == names(sim.ladder(scene))
    assert {step.leanest.micro_batch for step in _not_between(ladder)} == {2}
    assert {step.leanest.micro_batch for step in _not_between(sim.ladder(scene))} == {1}


def test_what_is_between_checkpointing_and_none_is_left_the_micro_batches_at_which_less_work_does_not_surely_fit() -> (
    None
):
    kinds = {memory_gb: _micro_batches(sim.setting(sim.hardware(8, memory_gb), SMALL)) for memory_gb in (80, 640)}
    every_2, none = GradientCheckpointing.EVERY_2, GradientCheckpointing.OFF
    assert kinds[80][every_2] == {2, 4}
    assert kinds[640].keys() == {none, GradientCheckpointing.ON}
    roomy = sim.ladder(sim.setting(sim.hardware(8, 640), SMALL))
    assert reasons(roomy)["zero2+gc-every-2"] == "no gradient checkpointing surely fits, and does less work"
    assert reasons(roomy)["zero2+gc-offload"] == "gradient checkpointing surely fits, and does less work"
    pinned = _micro_batches(sim.setting(sim.hardware(8, 640), SMALL, pins=Pins(gradient_checkpointing=every_2)))
    assert pinned == {every_2: {1, 2, 4}}


def _micro_batches(scene: Setting) -> dict[GradientCheckpointing, set[int]]:
    found: dict[GradientCheckpointing, set[int]] = {}
    for step in sim.ladder(scene).steps:
        of_value = found.setdefault(step.rung.gradient_checkpointing, set())
        of_value |= {strategy.micro_batch for strategy in step.strategies}
    return found


def _not_between(ladder: Ladder) -> list[Step]:
    return [step for step in ladder.steps if not step.rung.gradient_checkpointing.is_between]


def test_host_memory_that_is_not_there_leaves_out_offload() -> None:
    ladder = sim.ladder(sim.setting(sim.hardware(8, 24, host_gb=64)))
    short = [out for out in ladder.left_out if out.host_short_bytes is not None]
    assert short
    assert all("offload" in str(out.rung) for out in short)


@pytest.mark.parametrize(
    ("machine", "pins", "words"),
    [
        (sim.hardware(), Pins(offload=Offload.ALL, zero_stage=2), "needs --zero-stage 3"),
        (sim.hardware(), Pins(offload=Offload.OPTIMIZER, zero_stage=0), "needs --zero-stage 1 or 2 or 3: without ZeRO"),
        (V100, Pins(dtype=Dtype.BF16), "--dtype bf16 cannot be used: it does not work on GPU of a test; use fp16"),
        (V100, Pins(attention=Attention.FLASH_2), "compute capability 8.0"),
        (sim.hardware(), Pins(attention=Attention.FLASH_2), "flash-attn is not installed"),
        (V100, Pins(quantization=Quantization.INT8, method=Method.LORA), "int8 needs compute capability 7.5 or newer"),
        (sim.hardware(), Pins(quantization=Quantization.NF4, method=Method.LORA), "bitsandbytes is not installed"),
        (sim.hardware(), Pins(zero_stage=4), "--zero-stage 4 is not one of 0, 1, 2, 3"),
        (sim.hardware(), Pins(micro_batch=3), "does not divide"),
    ],
)
def test_pins_that_cannot_be_met_are_refused(machine: Hardware, pins: Pins, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        sim.ladder(sim.setting(machine, SMALL, pins=pins))


def test_what_a_models_class_lacks_is_left_out_and_a_pin_on_it_refused() -> None:
    facts = ModelFacts("{}", (ParameterGroup(10**8, 1, True, 2),), Positions.ROTARY)
    lacking = (
        Lacking("attention", "sdpa", "Gemma9 does not support sdpa"),
        Lacking("method", "lora", "it has no linear layer"),
        Lacking("gradient_checkpointing", "on", "Gemma9 does not support gradient checkpointing"),
    )
    scene = replace(sim.setting(shape=SMALL), facts=replace(facts, lacking=lacking))
    ladder = sim.ladder(scene)
    assert {(step.rung.attention, step.rung.method) for step in ladder.steps} == {(Attention.EAGER, Method.FULL)}
    assert not any(step.rung.gradient_checkpointing.recomputes for step in ladder.steps)
    assert reasons(ladder)["zero2+lora+eager"] == "it has no linear layer"
    pinned = replace(scene, request=replace(scene.request, pins=Pins(attention=Attention.SDPA)))
    with pytest.raises(UsageError, match="--attention sdpa cannot be used: Gemma9 does not support sdpa; use eager"):
        sim.ladder(pinned)


@pytest.mark.parametrize(
    ("met_with", "lost"),
    [
        (GradientCheckpointing.OFF, set(GradientCheckpointing)),  # then with all of them
        (GradientCheckpointing.ON, {GradientCheckpointing.ON}),
    ],
)
def test_what_cannot_be_built_is_left_out_with_its_reason(
    met_with: GradientCheckpointing, lost: set[GradientCheckpointing]
) -> None:
    scene = sim.setting(shape=SMALL)
    tried = rungs(scene, settle(scene))
    lora = next(one for one in tried if one.method is Method.LORA and one.gradient_checkpointing is met_with)
    unbuildable = Unbuildable(micro_step(lora, 2, scene), "the adapters cannot be built")
    ladder = sim.ladder(replace(scene, unbuildable=(unbuildable,)))
    left = {out.rung for out in ladder.left_out if out.reason == "the adapters cannot be built"}
    assert left == {one for one in tried if one.method is Method.LORA and one.gradient_checkpointing in lost}
    assert ladder.steps


@pytest.mark.parametrize(
    ("words", "is_clipped"),
    [("--max_grad_norm 0.5", True), ("--max_grad_norm 0", False), ("--weight_decay 0.1", False)],
)
def test_adalomo_is_left_out_where_gradients_are_to_be_clipped_and_refused_where_it_is_pinned(
    words: str, is_clipped: bool
) -> None:
    training = Training(extra_arguments=tuple(words.split()))
    allowed = sim.setting(shape=SMALL, pins=Pins(method=Method.FULL, zero_stage=3, offload=Offload.NONE))
    request = replace(allowed.request, training=training, allow=("adalomo", "lomo"))
    allowed = replace(allowed, request=request)
    tried = {rung.optimizer for rung in rungs(allowed, settle(allowed))}
    assert tried == {Optimizer.ADAMW, Optimizer.LOMO} | (set() if is_clipped else {Optimizer.ADALOMO})
    sentence = "--max_grad_norm 0.5: AdaLomo bounds its updates itself and clips no gradients"
    told = {out.reason for out in sim.ladder(allowed).left_out if out.rung.optimizer is Optimizer.ADALOMO}
    assert (told == {sentence}) is is_clipped
    assert (sentence in told) is is_clipped
    planned = make_plan(replace(allowed, installed=frozenset({FLASH_PACKAGE}))).candidates
    unsupported = {one.reason for one in planned if one.verdict is Verdict.UNSUPPORTED}
    assert unsupported == ({sentence} if is_clipped else set())
    for optimizer in (Optimizer.LOMO, Optimizer.ADALOMO):
        pinned = replace(allowed, request=replace(request, pins=request.pins.but(optimizer=optimizer)))
        if is_clipped and optimizer is Optimizer.ADALOMO:
            with pytest.raises(UsageError, match=f"^training argument {sentence}$"):
                check_asked(pinned)
        else:
            check_asked(pinned)


def test_where_no_kernel_is_left_each_one_says_why() -> None:
    lacking = tuple(Lacking("attention", value.word, f"no {value.word} here") for value in ATTENTION.values)
    facts = ModelFacts("{}", (ParameterGroup(10**8, 1, True, 2),), Positions.ROTARY, lacking=lacking)
    with pytest.raises(UsageError, match=r"no attention can be used: flash_attention_2: no fl.*; sdpa"):
        sim.ladder(replace(sim.setting(shape=SMALL), facts=facts))

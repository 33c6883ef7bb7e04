"""The formulas against published figures (decimal GB) and DeepSpeed's measured terms."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.estimate import MemoryEstimate
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.pins import Pins
from autofit.domain.model import ParameterGroup
from autofit.domain.outcome import Phase
from autofit.domain.request import Lora, Training
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.task import Task
from autofit.domain.trace import Moment, Trace
from autofit.planning.memory.activations import micro_step, moments, wanted_micro_steps
from autofit.planning.memory.closed_activations import closed_form_bytes
from autofit.planning.memory.interval import LATE_KERNELS_BYTES
from autofit.planning.memory.peak_memory import estimate_memory, offloaded_bytes
from autofit.planning.memory.states import model_states
from autofit.planning.parameters import lora_parameter_count
from autofit.planning.prior_constants import context
from autofit.planning.setting import Setting
from tests.builders import make_rung
from tests.planning import simulated as sim

SEVEN = replace(sim.LLAMA_7B, parameter_count=7_000_000_000)
SCENE = sim.setting(shape=SEVEN, tokens=256, global_batch=8)
PLAIN = make_rung(1, attention=Attention.EAGER)

MILLION = 10**6
GROUPS = (ParameterGroup(100 * MILLION, 2, True, 2), ParameterGroup(10 * MILLION, 80, True, 2))
TRAINED = 1000 * MILLION


def one_row(rung: Rung) -> Strategy:
    return Strategy(rung, 1, 1)


def traced(rung: Rung, *, rows: tuple[int, ...] = (1,), row_bytes: int = 20 * sim.GB) -> Setting:
    """SCENE on eight CPU ranks with a trace of `rung`: the loss holds `row_bytes` a row, the layers less and less."""
    scene = replace(SCENE, hardware=sim.hardware(8, kind=DeviceKind.CPU, capability=None))

    def trace(micro_batch: int) -> Trace:
        loss_bytes = micro_batch * row_bytes
        return Trace(
            micro_step(rung, micro_batch, scene),
            (
                Moment(Phase.FORWARD, loss_bytes // 2, 0),
                Moment(Phase.BACKWARD, loss_bytes, 100 * MILLION),
                Moment(Phase.BACKWARD, loss_bytes // 2, 900 * MILLION),
                Moment(Phase.BACKWARD, loss_bytes // 10, TRAINED),
                Moment(Phase.EVALUATE, loss_bytes // 4, 0),
            ),
            GROUPS,
        )

    return replace(scene, traces=tuple(trace(micro_batch) for micro_batch in rows))


@pytest.mark.parametrize(
    ("machine", "attention", "expected"),
    [
        (sim.hardware(capability=(9, 0)), Attention.SDPA, (9, 0)),
        (sim.hardware(capability=(8, 9)), Attention.SDPA, (8, 6)),
        (sim.hardware(capability=None), Attention.SDPA, None),
        (sim.hardware(capability=(9, 0)), Attention.FLASH_2, None),
        (sim.hardware(2, kind=DeviceKind.CPU), Attention.SDPA, None),
    ],
)
def test_what_is_traced_depends_on_the_gpu_only_where_torch_chooses_by_it(
    machine: Hardware, attention: Attention, expected: tuple[int, int] | None
) -> None:
    rung = replace(PLAIN, attention=attention)
    assert micro_step(rung, 1, replace(SCENE, hardware=machine)).capability == expected


@pytest.mark.parametrize(
    ("task", "words", "expected"),
    [
        (Task.SFT, (), False),
        (Task.REWARD, (), True),
        (Task.DPO, ("--disable_dropout", "false"), False),
        (Task.KTO, ("--disable_dropout",), True),
        (Task.GRPO, (), False),
        (Task.GRPO, ("--disable_dropout", "true"), True),
    ],
)
def test_dropout_is_traced_as_the_tasks_trainer_has_it(task: Task, words: tuple[str, ...], expected: bool) -> None:
    request = replace(SCENE.request, task=task, training=Training(extra_arguments=words))
    assert micro_step(PLAIN, 1, replace(SCENE, request=request)).disables_dropout is expected


def test_another_gpus_trace_serves_where_there_is_none_of_its_own() -> None:
    rung = replace(PLAIN, attention=Attention.SDPA)
    a100, h100 = (replace(SCENE, hardware=sim.hardware(capability=one)) for one in ((8, 0), (9, 0)))
    traces = [
        Trace(micro_step(rung, 1, scene), (Moment(Phase.BACKWARD, size, TRAINED),), GROUPS)
        for scene, size in ((a100, 1), (h100, 2))
    ]

    def seen_bytes(*known: Trace) -> int:
        found = moments(one_row(rung), replace(h100, traces=known))
        assert found is not None
        return found[0].activations_bytes

    assert seen_bytes(traces[0]) == 1
    assert seen_bytes(*traces) == 2


@pytest.mark.parametrize(
    ("capability", "least", "expected", "most"),
    [((8, 0), 110, 300, 450), ((9, 0), 450, 830, 1000), ((10, 0), 450, 830, 1000), (None, 50, 400, 1000)],
)
def test_a_context_is_taken_to_be_what_was_reported_of_such_gpus(
    capability: tuple[int, int] | None, least: int, expected: int, most: int
) -> None:
    """Before anything was fitted; then it is known better."""
    unknown = replace(SCENE, hardware=sim.hardware(1, capability=capability), traces=())
    nothing = replace(unknown, known_constants=replace(unknown.constants, runtime_bytes=0))
    strategy = one_row(PLAIN)
    seen, without = estimate_memory(strategy, unknown), estimate_memory(strategy, nothing)
    assert seen.peak_bytes - without.peak_bytes == expected * MILLION
    assert seen.low_bytes - without.low_bytes == least * MILLION
    assert seen.high_bytes - without.high_bytes == most * MILLION + LATE_KERNELS_BYTES


def test_a_slice_of_a_gpu_has_a_smaller_context() -> None:
    whole = sim.hardware(1, capability=(9, 0)).devices[0]
    assert context(replace(whole, is_mig=True)).least_bytes < context(whole).least_bytes
    assert context(whole).most_bytes <= context(replace(whole, is_mig=True)).most_bytes


def tensors_bytes(memory: MemoryEstimate) -> int:
    return memory.peak_bytes - memory.runtime_bytes


@pytest.mark.parametrize(("stage", "expected_gb"), [(1, 39.98), (2, 27.73), (3, 15.48)])
def test_published_figures_of_llama_2_7b(stage: int, expected_gb: float) -> None:
    strategy = one_row(replace(PLAIN, zero_stage=stage))
    states = model_states(strategy, SCENE)
    persistent_bytes = states.parameters_bytes + states.gradients_bytes + states.optimizer_bytes
    coming_bytes = {1: 2 * 7e9, 2: 2 * 7e9 / 8, 3: 0}[stage]  # all gradients, a rank's own, already counted
    activations_bytes = closed_form_bytes(strategy, SCENE)
    assert activations_bytes / 1e9 == pytest.approx(1.48, abs=0.005)
    assert (persistent_bytes + coming_bytes + activations_bytes) / 1e9 == pytest.approx(expected_gb, abs=0.005)


def test_adapters_on_q_and_v() -> None:
    assert lora_parameter_count(SEVEN, Lora()) == pytest.approx(33.6e6, rel=0.002)
    grouped = replace(SEVEN, key_value_head_count=8)
    assert lora_parameter_count(grouped, Lora()) == 32 * 64 * (4096 + 4096 + 4096 + 1024)
    assert lora_parameter_count(SEVEN, Lora(target_modules=("all-linear",))) == 32 * 64 * (4 * 8192 + 3 * 15104)


def test_frozen_weights_cost_two_bytes_and_stage_3_divides_them() -> None:
    lora = replace(PLAIN, method=Method.LORA)
    trained = lora_parameter_count(SEVEN, Lora())
    states = model_states(one_row(lora), SCENE)
    assert states.parameters_bytes == 2 * (7_000_000_000 + trained)
    assert states.optimizer_bytes == 12 * trained // 8
    divided = model_states(one_row(replace(lora, zero_stage=3)), SCENE)
    assert divided.parameters_bytes == pytest.approx(2 * (7_000_000_000 + trained) / 8, rel=1e-3)


def test_offload_moves_states_to_the_host_of_all_ranks() -> None:
    moved = one_row(replace(PLAIN, zero_stage=2, offload=Offload.OPTIMIZER))
    memory = estimate_memory(moved, SCENE)
    assert (memory.gradients_bytes, memory.optimizer_bytes) == (0, 0)
    # Masters, moments and gradients in fp32, the updated weights in bf16, and one tensor in passing on each rank.
    assert offloaded_bytes(moved, SCENE) == pytest.approx(18 * 7e9, rel=0.03)
    everything = one_row(replace(PLAIN, zero_stage=3, offload=Offload.ALL))
    assert estimate_memory(everything, SCENE).parameters_bytes < 1000  # the smallest tensors are never taken apart
    assert offloaded_bytes(everything, SCENE) == pytest.approx(20 * 7e9, rel=1e-3)


def test_offload_saves_nothing_where_the_host_is_the_device() -> None:
    scene = replace(SCENE, hardware=sim.hardware(2, kind=DeviceKind.CPU, capability=None))
    kept = replace(PLAIN, zero_stage=3)
    assert model_states(one_row(kept), scene) == model_states(one_row(replace(kept, offload=Offload.ALL)), scene)


def test_a_traced_peak_is_states_and_the_largest_moment() -> None:
    memory = estimate_memory(one_row(PLAIN), traced(PLAIN), is_rehearsal=True)
    assert memory.phase is Phase.BACKWARD
    assert memory.activations_bytes == 20 * sim.GB
    assert tensors_bytes(memory) == 2 * TRAINED + 12 * TRAINED // 8 + 20 * sim.GB


def test_gradients_that_accumulate_stay_through_the_next_micro_step() -> None:
    once = tensors_bytes(estimate_memory(Strategy(PLAIN, 1, 1), traced(PLAIN), is_rehearsal=True))
    often = tensors_bytes(estimate_memory(Strategy(PLAIN, 1, 4), traced(PLAIN), is_rehearsal=True))
    assert often - once == 2 * TRAINED + 2 * 4096**2  # and the bucket waits with them


def test_stage_2_accumulates_a_ranks_own_gradients_alone() -> None:
    rung = replace(PLAIN, zero_stage=2)
    once = tensors_bytes(estimate_memory(Strategy(rung, 1, 1), traced(rung), is_rehearsal=True))
    often = tensors_bytes(estimate_memory(Strategy(rung, 1, 4), traced(rung), is_rehearsal=True))
    assert often - once == 2 * TRAINED // 8


def test_the_worst_rank_has_its_gradients_before_the_first_one() -> None:
    rung = replace(PLAIN, zero_stage=2)
    scene = traced(rung)
    early = replace(scene.traces[0].moments[2], activations_bytes=21 * sim.GB)
    layers = replace(scene.traces[0], moments=(*scene.traces[0].moments[:2], early, *scene.traces[0].moments[3:]))
    scene = replace(scene, traces=(layers,))
    first = estimate_memory(one_row(rung), scene, is_rehearsal=True)
    worst = estimate_memory(one_row(rung), scene)
    assert tensors_bytes(worst) - tensors_bytes(first) == 2 * TRAINED // 8


def test_without_activations_the_optimizers_step_is_the_peak() -> None:
    kept = replace(PLAIN, zero_stage=2)
    alone = replace(traced(kept, row_bytes=0), hardware=sim.hardware(1, kind=DeviceKind.CPU, capability=None))
    assert estimate_memory(one_row(kept), alone, is_rehearsal=True).phase is Phase.STEP


@pytest.mark.parametrize(("eval_fraction", "evaluation"), [(0.0, ()), (0.1, (250,))])
def test_more_rows_than_were_traced_go_on_in_a_straight_line(eval_fraction: float, evaluation: tuple[int, ...]) -> None:
    """Of an evaluation where there is one."""
    scene = traced(PLAIN, rows=(1, 2, 4), row_bytes=1000)
    scene = replace(scene, request=replace(scene.request, eval_fraction=eval_fraction))
    for rows in (1, 2, 3, 4, 8):
        found = moments(Strategy(PLAIN, rows, 1), scene)
        assert found is not None
        parts = (500, 1000, 500, 100, *evaluation)
        assert [moment.activations_bytes for moment in found] == [rows * part for part in parts]


def test_shorter_rows_are_scaled_from_the_traced_ones() -> None:
    scene = replace(traced(PLAIN, row_bytes=1000), worst_tokens=128)
    found = moments(one_row(PLAIN), scene)
    assert found is not None
    assert found[1].activations_bytes == 500
    assert found[1].gradient_count == 100 * MILLION


def test_what_is_not_like_a_trace_is_not_traced() -> None:
    assert moments(one_row(replace(PLAIN, gradient_checkpointing=GradientCheckpointing.ON)), traced(PLAIN)) is None


def test_few_micro_steps_are_to_be_traced() -> None:
    rungs = [replace(PLAIN, zero_stage=stage) for stage in (1, 2, 3)]
    scene = replace(SCENE, is_padded=True, request=replace(SCENE.request, global_batch=64))
    steps = wanted_micro_steps(rungs, scene)
    assert [(step.micro_batch, step.is_padded) for step in steps] == [(1, False), (2, True), (4, True)]
    pinned = [replace(scene, request=replace(scene.request, pins=Pins(micro_batch=rows))) for rows in (4, 8)]
    found = [[step.micro_batch for step in wanted_micro_steps(rungs, one)] for one in pinned]
    assert found == [[4], [2, 4]]
    odd = replace(scene, worst_tokens=250)
    assert {(step.tokens, step.is_padded) for step in wanted_micro_steps(rungs, odd)} == {(256, True)}


def test_a_trace_narrows_the_interval() -> None:
    wide = estimate_memory(one_row(PLAIN), replace(traced(PLAIN), traces=()))
    narrow = estimate_memory(one_row(PLAIN), traced(PLAIN))
    assert narrow.high_bytes / narrow.low_bytes < 1.1 < wide.high_bytes / wide.low_bytes


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("offload", list(Offload))
def test_the_interval_holds_the_estimate(stage: int, method: Method, offload: Offload) -> None:
    rung = replace(PLAIN, zero_stage=stage, method=method, offload=offload)
    memory = estimate_memory(one_row(rung), SCENE)
    assert memory.low_bytes <= memory.peak_bytes <= memory.high_bytes

"""What a frozen copy of the model, or the model without its adapter, adds to memory, time and micro-batches."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind, Link, Rates
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.knobs.pins import Pins
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.task import Task
from autofit.domain.trace import Moment
from autofit.planning.memory.buffers import gathered_count
from autofit.planning.memory.micro_step_memory import loads_within
from autofit.planning.memory.offloaded import offloaded
from autofit.planning.memory.states import model_states
from autofit.planning.micro_batches import asked_micro_batches
from autofit.planning.parameters import parameters
from autofit.planning.reference import forward_passes, has_reference_pass, keeps_reference, runs_more_than_once
from autofit.planning.setting import Setting
from autofit.planning.speed.communication import collectives_s
from autofit.planning.speed.rates import rates_of
from autofit.planning.speed.work import by_formula
from tests.builders import LLAMA_7B, make_hardware, make_host, make_request, make_rung

RANKS = 8
A100 = Rates(312e12, 312e12, 19.5e12, 2039e9, 32e9, 300e9, 400)
BEFOREHAND = ("--precompute_ref_log_probs", "true")
FULL, LORA = make_rung(2), make_rung(2, method=Method.LORA)


def setting(task: Task, *words: str, kind: DeviceKind = DeviceKind.CUDA) -> Setting:
    hardware = make_hardware(
        RANKS, kind, memory_gb=80, host=make_host(1000), link=Link.NVLINK, compute_capability=(8, 0), rates=A100
    )
    return Setting(make_request(tokens=1024, task=task, global_batch=32, extra=words), hardware, LLAMA_7B, 1024)


SFT, DPO, KTO = setting(Task.SFT), setting(Task.DPO), setting(Task.KTO)


def states_bytes(rung: Rung, of: Setting) -> int:
    return model_states(Strategy(rung, 2, 2), of).parameters_bytes


@pytest.mark.parametrize("task", [DPO, KTO], ids=["dpo", "kto"])
def test_all_parameters_train_beside_a_copy_which_zero_3_alone_divides(task: Setting) -> None:
    whole = LLAMA_7B.parameter_count
    for stage in (0, 1, 2):
        assert states_bytes(make_rung(stage), task) - states_bytes(make_rung(stage), SFT) == 2 * whole
    assert states_bytes(make_rung(3), task) == 2 * states_bytes(make_rung(3), SFT)
    assert states_bytes(make_rung(3, optimizer=Optimizer.LOMO), task) == states_bytes(make_rung(3), task)
    assert states_bytes(LORA, task) == states_bytes(LORA, SFT)
    assert states_bytes(FULL, setting(Task.DPO, *BEFOREHAND)) == states_bytes(FULL, SFT)


def test_offloaded_parameters_take_their_copy_with_them() -> None:
    rung = make_rung(3, offload=Offload.ALL)
    strategy, part_bytes = Strategy(rung, 2, 2), 2 * parameters(rung, SFT).divided_count(RANKS, is_trained=True)
    assert states_bytes(rung, DPO) == 2 * states_bytes(rung, SFT) < part_bytes // 10
    assert offloaded(strategy, DPO).payload_bytes - offloaded(strategy, SFT).payload_bytes == part_bytes


def test_which_passes_there_are() -> None:
    passes = {one.request.task: forward_passes(one.request) for one in (SFT, DPO, KTO)}
    assert passes == {Task.SFT: 1, Task.DPO: 2, Task.KTO: 4}
    assert forward_passes(setting(Task.KTO, "--loss_type", "apo_zero_unpaired").request) == 2
    assert forward_passes(setting(Task.KTO, *BEFOREHAND).request) == 2
    assert not has_reference_pass(setting(Task.REWARD).request)
    assert [keeps_reference(rung, DPO.request) for rung in (FULL, LORA)] == [True, False]
    assert [runs_more_than_once(rung, DPO.request) for rung in (FULL, LORA)] == [False, True]
    assert [runs_more_than_once(rung, KTO.request) for rung in (FULL, LORA)] == [True, True]


def test_a_pass_more_is_a_pass_more_of_work_and_of_gathering() -> None:
    strategy, rates = Strategy(make_rung(3), 2, 2), rates_of(DPO.hardware)
    dpo, beforehand = (by_formula(strategy, one, 1024.0) for one in (DPO, setting(Task.DPO, *BEFOREHAND)))
    assert dpo.forward == beforehand.forward * 2
    assert dpo.backward == beforehand.backward
    assert collectives_s(strategy, DPO, rates)[0] == pytest.approx(2 * collectives_s(strategy, SFT, rates)[0])


def test_a_model_that_also_runs_without_gradients_keeps_nothing_gathered() -> None:
    rung = make_rung(3, method=Method.LORA)
    assert gathered_count(rung, DPO, 0.0) == parameters(rung, DPO).largest_count
    assert gathered_count(rung, SFT, 0.0) > 5 * parameters(rung, SFT).largest_count
    assert gathered_count(make_rung(3), DPO, 0.0) == gathered_count(make_rung(3), SFT, 0.0)


def test_the_references_pass_has_its_own_load() -> None:
    moments = (
        Moment(Phase.FORWARD, 10**9, 0),
        Moment(Phase.REFERENCE, 3 * 10**9, 0),
        Moment(Phase.BACKWARD, 2 * 10**9, 0),
    )
    loads = {load.phase: load for load in loads_within(Strategy(make_rung(3), 2, 1), DPO, moments, is_first_rank=True)}
    largest_bytes = 2 * parameters(make_rung(3), DPO).largest_count
    assert loads[Phase.REFERENCE].activations_bytes == 3 * 10**9
    assert loads[Phase.REFERENCE].buffers_bytes - loads[Phase.FORWARD].buffers_bytes == largest_bytes


def test_rows_that_are_held_against_each_other_are_two_at_least() -> None:
    assert asked_micro_batches(DPO.request, RANKS) == (1, 2, 4)
    assert asked_micro_batches(KTO.request, RANKS) == (2, 4)
    assert asked_micro_batches(setting(Task.KTO, "--loss_type=apo_zero_unpaired").request, RANKS) == (1, 2, 4)
    with pytest.raises(UsageError, match=r"--micro-batch 1 is too small: .*; give 2 and 4"):
        asked_micro_batches(replace(KTO.request, pins=Pins(micro_batch=1)), RANKS)
    with pytest.raises(UsageError, match=r"leaves each of 8 ranks 1 row, .* add --batch-size 16"):
        asked_micro_batches(replace(KTO.request, global_batch=8), RANKS)

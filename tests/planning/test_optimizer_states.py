"""A script's states are those of the optimizer that it builds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.offload import Offload
from autofit.domain.strategy import Strategy
from autofit.planning.memory.offloaded import offloaded
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.memory.states import model_states
from autofit.planning.script.script_setting import guessed_shape, own_strategy, script_request, script_setting
from autofit.planning.setting import Setting
from tests.planning import simulated as sim
from tests.planning.script.test_config_rewriter import FACTS

TRAINED = 10 * 1024
KEPT = [
    ("SGD", (), 4),  # the master weight alone
    ("SGD", ("momentum",), 8),
    ("lion", (), 8),
    ("AdamW", (), 12),
    ("AdamW", ("amsgrad",), 16),
    ("RMSprop", ("centered", "momentum"), 16),
    ("Unheard", ("momentum",), 12),
    (None, (), 12),
]


def of_script(
    optimizer: str | None, options: tuple[str, ...], offload: Offload, kind: DeviceKind
) -> tuple[Strategy, Setting]:
    facts = replace(FACTS, optimizer=optimizer, optimizer_options=options, zero_stage=2, offload=offload)
    request = script_request("train.py", facts, sim.setting().request.pins, memory_limit_bytes=None, identity=())
    hardware = sim.hardware(2, kind=kind)
    return own_strategy(facts), script_setting(request, facts, guessed_shape(facts), hardware, None)


@pytest.mark.parametrize(("optimizer", "options", "each_bytes"), KEPT)
def test_each_optimizer_has_its_own_states(optimizer: str | None, options: tuple[str, ...], each_bytes: int) -> None:
    strategy, setting = of_script(optimizer, options, Offload.NONE, DeviceKind.CUDA)
    assert model_states(strategy, setting).optimizer_bytes == each_bytes * TRAINED // 2
    assert estimate_memory(strategy, setting).optimizer_bytes == each_bytes * TRAINED // 2


@pytest.mark.parametrize(("optimizer", "options", "each_bytes"), KEPT)
def test_what_is_offloaded_follows_too(optimizer: str | None, options: tuple[str, ...], each_bytes: int) -> None:
    moved = of_script(optimizer, options, Offload.OPTIMIZER, DeviceKind.CUDA)
    adam, own = offloaded(*of_script("AdamW", (), Offload.OPTIMIZER, DeviceKind.CUDA)), offloaded(*moved)
    assert model_states(*moved).optimizer_bytes == 0
    assert adam.payload_bytes - own.payload_bytes == (12 - each_bytes) * TRAINED // 2

"""Llama-2 as DeepSpeed sees it: its tensors, and what a micro-step of 256 tokens holds (eager attention, bf16)."""

from __future__ import annotations

from dataclasses import replace

from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.model import ModelShape, ParameterGroup
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.trace import Moment, Trace
from autofit.planning.memory.activations import micro_step
from autofit.planning.setting import Setting
from tests.builders import make_rung
from tests.planning import simulated as sim

SEVEN = ModelShape("Llama-2-7B", "llama", 32, 4096, 32, 32, 128, 11008, 32000, 6_738_415_616)
SEVENTY = ModelShape("Llama-2-70B", "llama", 80, 8192, 64, 8, 128, 28672, 32000, 68_976_648_192)
GROUPS = {
    SEVEN: ((4096, 65), (4096 * 4096, 128), (4096 * 11008, 96), (32000 * 4096, 2)),
    SEVENTY: ((8192, 161), (8192 * 8192, 160), (8192 * 1024, 160), (8192 * 28672, 240), (32000 * 8192, 2)),
}
ADAPTERS = (64 * 4096, 128)  # of Llama-2-7B: r 64 on q and v


def strategy(zero_stage: int, offload: Offload = Offload.NONE, *, accumulation: int = 1) -> Strategy:
    return Strategy(rung(zero_stage, offload), 1, accumulation)


def rung(zero_stage: int, offload: Offload = Offload.NONE, method: Method = Method.FULL) -> Rung:
    return make_rung(zero_stage, offload=offload, method=method, attention=Attention.EAGER)


def setting(
    of: Rung, shape: ModelShape = SEVEN, *, ranks: int = 8, memory_gb: float = 85, moments: tuple[Moment, ...] = ()
) -> Setting:
    """On `ranks` GPUs of one node; without `moments` the activations take nothing."""
    scene = sim.setting(sim.hardware(ranks, memory_gb), shape=shape, tokens=256, global_batch=8 * ranks)
    is_trained = of.method is Method.FULL
    groups = tuple(ParameterGroup(count, tensors, is_trained, 2) for count, tensors in GROUPS[shape])
    groups += () if is_trained else (ParameterGroup(*ADAPTERS, True, 2),)
    trained = sum(group.element_count * group.tensor_count for group in groups if group.is_trained)
    nothing = (Moment(Phase.FORWARD, 0, 0), Moment(Phase.BACKWARD, 0, trained), Moment(Phase.EVALUATE, 0, 0))
    return replace(scene, traces=(Trace(micro_step(of, 1, scene), moments or nothing, groups),))


def seven_moments() -> tuple[Moment, ...]:
    """As the tracer gives them for Llama-2-7B, all parameters, one row."""
    head, layer = 32000 * 4096 + 4096, 4 * 4096 * 4096 + 3 * 4096 * 11008 + 2 * 4096
    layers = tuple(
        Moment(Phase.BACKWARD, 2_027_494_400 - 60_295_168 * index, head + (index + 1) * layer) for index in range(32)
    )
    return (
        Moment(Phase.FORWARD, 1_956_787_200, 0),
        Moment(Phase.BACKWARD, 2_747_381_248, head),
        *layers,
        Moment(Phase.BACKWARD, 264_248_320, SEVEN.parameter_count),
        Moment(Phase.EVALUATE, 33_824_768, 0),
    )

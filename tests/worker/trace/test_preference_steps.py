"""Traces of DPO and KTO against the CPU allocator's own peak, and against traces of all layers."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import trl.trainer.utils
from transformers import LlamaConfig, PretrainedConfig, Qwen3MoeConfig

from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.outcome import Phase
from autofit.domain.request import Lora
from autofit.domain.task import Task
from autofit.domain.trace import MicroStep, Trace, Work
from autofit.worker.trace.micro_step_trace import trace
from tests.worker.trace.real_step import PLAIN, peak_bytes, peak_without_states

LAYERS = 6
_SIZES = {
    "hidden_size": 128, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 320, "vocab_size": 1000,
}  # fmt: skip
CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(**_SIZES),
    "experts": Qwen3MoeConfig(**_SIZES, moe_intermediate_size=96, num_experts=8),
}
LORA, ON = Lora(8, 16, ("q_proj", "v_proj")), GradientCheckpointing.ON
DPO = replace(PLAIN, task=Task.DPO, has_reference=True, disables_dropout=True)
KTO = replace(PLAIN, task=Task.KTO, has_reference=True, compares_rows=True, disables_dropout=True)
CASES = [
    ("llama", DPO),
    ("llama", replace(DPO, lora=LORA, is_padded=True)),
    ("llama", replace(DPO, gradient_checkpointing=ON)),
    ("experts", replace(DPO, lora=LORA, gradient_checkpointing=ON)),
    ("llama", replace(DPO, has_reference=False)),
    ("llama", KTO),
    ("experts", replace(KTO, micro_batch=4)),
    ("llama", replace(KTO, lora=LORA, gradient_checkpointing=ON)),
    ("llama", replace(KTO, has_reference=False, compares_rows=False, is_padded=True)),
]


@cache
def told(name: str, step: MicroStep) -> Trace:
    """The trace, made once for all tests that ask for it."""
    return trace(CONFIGS[name], step)


@pytest.fixture(autouse=True)
def _narrow_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of such small models would hide their layers: it works on tiles of 32768 columns."""
    monkeypatch.setattr(trl.trainer.utils, "_CHUNKED_LOGPROB_CHUNK_SIZE", 256)


@pytest.mark.parametrize(("name", "step"), CASES)
def test_the_allocators_peak(name: str, step: MicroStep) -> None:
    traced = told(name, step)
    assert peak_bytes(traced.moments[:-1]) == pytest.approx(peak_without_states(CONFIGS[name], step), rel=1e-2)


@pytest.mark.parametrize(("name", "step"), CASES)
def test_layers_that_are_left_out(name: str, step: MicroStep) -> None:
    assert told(name, step) == trace(CONFIGS[name], step, at_full_depth=True)


def test_a_reference_computes_one_forward_pass_and_keeps_nothing() -> None:
    with_one, without = (told("llama", replace(DPO, has_reference=has)) for has in (True, False))
    flop = {
        phase: sum((moment.work for moment in with_one.moments if moment.phase is phase), Work()).matmul_flop
        for phase in Phase
    }
    assert flop[Phase.REFERENCE] == flop[Phase.FORWARD] > 0
    backward = [[one for one in each.moments if one.phase is Phase.BACKWARD] for each in (with_one, without)]
    assert [one.work for one in backward[0]] == [one.work for one in backward[1]]
    assert with_one.parameters == without.parameters  # of the model that trains

"""What a rank holds while it generates, against values worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autofit.domain.outcome import Phase
from autofit.domain.request import Generation, Reward, Training
from autofit.domain.strategy import Strategy
from autofit.domain.task import Task
from autofit.domain.trace import Moment
from autofit.planning.memory.closed_activations import closed_moments
from autofit.planning.memory.device_share import sized_for
from autofit.planning.memory.generation_memory import closed_generation, generation_loads
from autofit.planning.memory.load import Load
from autofit.planning.memory.peak_memory import estimate_memory
from autofit.planning.memory.states import model_states, persistent_count
from autofit.planning.setting import Setting
from tests.builders import GB, LLAMA_7B, make_rung
from tests.planning import simulated as sim

P, ANSWER_TOKENS, TOKENS, RANKS = LLAMA_7B.parameter_count, 512, 1024, 8
MOMENTS = (Moment(Phase.GENERATE, 3 * GB, 0), Moment(Phase.GENERATE, 5 * GB, 0), Moment(Phase.FORWARD, 9 * GB, 0))


def scene(*words: str, memory_gb: float = 80, batch: int = 64) -> Setting:
    """64 answers of 512 tokens a step on eight GPUs, eight of them on each."""
    plain = sim.setting(sim.hardware(RANKS, memory_gb), tokens=TOKENS, global_batch=batch)
    generation = Generation(8, ANSWER_TOKENS, (Reward("rewards.py:brief"),))
    asked = replace(plain.request, task=Task.GRPO, generation=generation, training=Training(extra_arguments=words))
    return replace(plain, request=asked)


def loads(stage: int, of: Setting) -> list[Load]:
    return [*generation_loads(Strategy(make_rung(stage), 1, 8), of, MOMENTS)]


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_the_larger_moment_counts_beside_what_lasts(stage: int) -> None:
    (load,) = loads(stage, scene())
    states = model_states(Strategy(make_rung(stage), 1, 8), scene())
    held_bytes = states.parameters_bytes + states.gradients_bytes + states.optimizer_bytes
    assert load.phase is Phase.GENERATE
    assert load.total_bytes == held_bytes + 5 * GB


def test_under_zero_3_the_model_is_whole_beside_its_partitions() -> None:
    (load,) = loads(3, scene())
    (divided,) = loads(3, replace(scene(), gathers_generation=False))
    known = persistent_count(make_rung(3), scene())
    assert load.parameters_bytes == divided.parameters_bytes
    bucket_bytes = 2 * scene().zero_sizes.reduce_bucket
    assert load.buffers_bytes == 2 * (P - known) + bucket_bytes
    assert divided.buffers_bytes < load.buffers_bytes


@pytest.mark.parametrize(("memory_gb", "is_gathered"), [(80, True), (32, False)])
def test_a_model_is_gathered_where_a_device_has_room_for_it(memory_gb: float, is_gathered: bool) -> None:
    """13.5 GB whole beside 13.5 GB of states and what is traced."""
    sized = sized_for(Strategy(make_rung(3), 1, 8), scene(memory_gb=memory_gb))
    assert sized.gathers_generation is is_gathered
    asked = scene("--ds3_gather_for_generation", "true", memory_gb=memory_gb)
    assert sized_for(Strategy(make_rung(3), 1, 8), asked).gathers_generation


def test_without_a_trace_the_cache_is_that_of_all_answers_at_full_length() -> None:
    """Keys and values of 32 layers, 32 heads of 128, 8 rows of 1,024 tokens in bf16, and a layer's copy; the draw."""
    (moment,) = closed_generation(Strategy(make_rung(1), 1, 8), scene())
    layer_bytes = 2 * 32 * 128 * 2 * 8 * TOKENS
    assert moment.activations_bytes == 33 * layer_bytes + 8 * 32000 * (2 + 12)
    assert closed_generation(Strategy(make_rung(1), 1, 8), sim.setting(sim.hardware(RANKS))) == ()
    assert closed_moments(Strategy(make_rung(1), 1, 8), scene())[0].phase is Phase.FORWARD


def test_a_generation_of_many_answers_has_the_peak() -> None:
    of = scene(batch=64 * 64)
    estimate = estimate_memory(Strategy(make_rung(2), 1, 512), of)
    assert estimate.phase is Phase.GENERATE
    assert estimate.activations_bytes > 512 * TOKENS * 32 * 2 * 32 * 128 * 2


def test_a_reward_model_and_the_reference_of_a_distance_lie_beside_the_model() -> None:
    strategy = Strategy(make_rung(2), 1, 8)
    plain = model_states(strategy, scene()).parameters_bytes
    assert model_states(strategy, scene("--beta", "0.04")).parameters_bytes == plain + 2 * P
    judged = replace(scene(), reward_models=(LLAMA_7B,))
    assert model_states(strategy, judged).parameters_bytes == plain + 2 * P
    divided = replace(strategy, rung=make_rung(3))
    assert model_states(divided, judged).parameters_bytes == model_states(divided, scene()).parameters_bytes + 2 * -(
        -P // RANKS
    )
    phases = [load.phase for load in generation_loads(strategy, judged, MOMENTS)]
    assert phases == [Phase.GENERATE, Phase.REWARD]

"""What one rank holds at each moment of its micro-steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from autofit.domain.knobs.dtype import element_bytes
from autofit.domain.knobs.offload import Offload
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Strategy
from autofit.domain.trace import Moment
from autofit.planning.parameters import parameters
from autofit.planning.setting import Setting

from .buffers import ahead_count, bucket_count, gathered_count
from .gradients import GradientProgress, gradients, own_count
from .load import Load
from .states import ModelStates, model_states, offload_of


def loads_within(
    strategy: Strategy, setting: Setting, moments: Sequence[Moment], *, is_first_rank: bool
) -> Iterator[Load]:
    """The loads of the micro-steps from the second optimizer step on; with accumulation also those of a micro-step that
    adds to earlier ones."""
    states = model_states(strategy, setting)
    is_offloaded = offload_of(strategy.rung, setting) is not Offload.NONE
    turn_bytes = next((one.activations_bytes for one in reversed(moments) if one.phase is Phase.FORWARD), 0)
    for is_adding in (False, True)[: min(2, strategy.gradient_accumulation)]:
        before_count = last_count = 0
        for moment in moments:
            if moment.phase is not Phase.BACKWARD:
                yield _forward(strategy, setting, states, moment, is_adding)
                continue
            progress = GradientProgress(before_count, moment.gradient_count, is_adding)
            yield _backward(strategy, setting, states, moment, progress, is_first_rank)
            if is_offloaded:  # what came last leaves before the next layer's activations are there
                turn = replace(moment, activations_bytes=min(turn_bytes, moment.activations_bytes))
                leaving = replace(progress, last_count=last_count)
                yield _backward(strategy, setting, states, turn, leaving, is_first_rank)
            before_count, last_count = moment.gradient_count, progress.new_count
        yield _backward_end(strategy, setting, states, last_count, is_adding, is_first_rank)


def _forward(strategy: Strategy, setting: Setting, states: ModelStates, moment: Moment, is_adding: bool) -> Load:
    """The load of a forward moment: no gradient comes, those of earlier micro-steps are there, and ZeRO-1 keeps its
    bucket until it reduces."""
    width = element_bytes(strategy.rung.dtype)
    stage = strategy.rung.zero_stage
    is_left = is_adding and moment.phase is Phase.FORWARD
    trained = parameters(strategy.rung, setting).trained_count
    own = 0 if offload_of(strategy.rung, setting) is not Offload.NONE else own_count(strategy, setting)
    left = {0: trained, 1: trained, 2: own, 3: 0}[stage] if is_left else 0
    buckets = bucket_count(strategy.rung, setting) if stage >= 3 or (stage == 1 and is_left) else 0
    gathered = gathered_count(strategy.rung, setting, 0.0)
    return Load(
        moment.phase,
        states.parameters_bytes,
        states.gradients_bytes + width * left,
        states.optimizer_bytes,
        moment.activations_bytes,
        states.buffers_bytes + width * (buckets + gathered),
        width * ahead_count(strategy.rung, setting, gathered),
    )


def _backward_end(
    strategy: Strategy, setting: Setting, states: ModelStates, last_count: int, is_adding: bool, is_first_rank: bool
) -> Load:
    """The load when the last gradients, `last_count`, are reduced: nothing is left of the activations."""
    trained = parameters(strategy.rung, setting).trained_count
    progress = GradientProgress(trained, trained, is_adding, last_count)
    return _backward(strategy, setting, states, Moment(Phase.BACKWARD, 0, trained), progress, is_first_rank)


def _backward(
    strategy: Strategy,
    setting: Setting,
    states: ModelStates,
    moment: Moment,
    progress: GradientProgress,
    is_first_rank: bool,
) -> Load:
    width = element_bytes(strategy.rung.dtype)
    held = gradients(strategy, setting, progress, is_first_rank=is_first_rank)
    done_share = progress.before_count / max(1, parameters(strategy.rung, setting).trained_count)
    gathered = gathered_count(strategy.rung, setting, done_share)
    return Load(
        moment.phase,
        states.parameters_bytes,
        states.gradients_bytes + held.kept_bytes,
        states.optimizer_bytes,
        moment.activations_bytes,
        states.buffers_bytes + held.passing_bytes + width * gathered,
        width * ahead_count(strategy.rung, setting, gathered),
    )

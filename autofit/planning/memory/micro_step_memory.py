"""What one rank holds at each moment of its micro-steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from autofit.domain.knobs.dtype import element_bytes
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.offload import Offload
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Strategy
from autofit.domain.trace import Moment
from autofit.planning.parameters import parameters
from autofit.planning.setting import Setting

from .buffers import ahead_count, bucket_count, gathered_count, reference_gathered_count
from .closed_activations import HIGH_FACTOR
from .gradients import GradientProgress, gradients, own_count
from .load import Load
from .states import ModelStates, model_states, offload_of


def loads_within(
    strategy: Strategy, setting: Setting, moments: Sequence[Moment], *, is_first_rank: bool
) -> Iterator[Load]:
    """The loads of the micro-steps from the second optimizer step on; with accumulation also those of a micro-step that
    adds to earlier ones."""
    states = model_states(strategy, setting)
    for is_adding in (False, True)[: min(2, strategy.gradient_accumulation)]:
        for moment in _largest_forward(moments):
            yield _forward(strategy, setting, states, moment, is_adding)
        yield from _backward_loads(strategy, setting, moments, is_adding, is_first_rank)


def _largest_forward(moments: Sequence[Moment]) -> Iterator[Moment]:
    """Of the moments without gradients the largest of each phase: in all else they are alike."""
    for phase in (Phase.FORWARD, Phase.REFERENCE, Phase.EVALUATE):
        of_phase = [moment for moment in moments if moment.phase is phase]
        if of_phase:
            yield max(of_phase, key=lambda moment: moment.activations_bytes)


_ANY_AGAIN = GradientCheckpointing.ON
"""Stands for every value with which layers are computed again: activations aside they hold the same."""


@dataclass(frozen=True)
class _Held:
    """What is held in one moment of the backward pass beside activations: all of it, and what is not gathered ahead.

    `place` is the moment's among them; with `is_turn` no more activations are there than at the turn.
    """

    load: Load
    place: int
    is_turn: bool
    all_bytes: int
    least_bytes: int


def _backward_loads(
    strategy: Strategy, setting: Setting, moments: Sequence[Moment], is_adding: bool, is_first_rank: bool
) -> Iterator[Load]:
    """The loads of the backward pass that are the largest of it by what an estimate asks for: all that is held or what
    is not gathered ahead, without activations, with those expected, or with HIGH_FACTOR times as many; at last that of
    its end."""
    backward = [moment for moment in moments if moment.phase is Phase.BACKWARD]
    turn_bytes = next((one.activations_bytes for one in reversed(moments) if one.phase is Phase.FORWARD), 0)
    counts = tuple(moment.gradient_count for moment in backward)
    *course, end = _course(strategy, setting, counts, is_adding, is_first_rank)
    activations = [moment.activations_bytes for moment in backward]
    sizes = [min(turn_bytes, activations[one.place]) if one.is_turn else activations[one.place] for one in course]
    for times in (1.0, 0.0, HIGH_FACTOR) if course else ():
        for held_bytes in ([one.all_bytes for one in course], [one.least_bytes for one in course]):
            together = [held + times * size for held, size in zip(held_bytes, sizes, strict=True)]
            at = together.index(max(together))
            yield replace(course[at].load, activations_bytes=sizes[at])
    yield end.load


def _course(
    strategy: Strategy, setting: Setting, counts: tuple[int, ...], is_adding: bool, is_first_rank: bool
) -> tuple[_Held, ...]:
    """What is held in each moment of the backward pass, at whose end `counts` gradients are there, and when the last of
    them are reduced: the same for all micro-batches that accumulate, and for all that do not, and however many layers
    are computed again."""
    is_again = strategy.rung.gradient_checkpointing.recomputes
    rung = replace(strategy.rung, gradient_checkpointing=_ANY_AGAIN) if is_again else strategy.rung
    key = (_course, rung, strategy.gradient_accumulation > 1, counts, is_adding, is_first_rank)
    return setting.once(key, lambda: (*_backward_course(strategy, setting, counts, is_adding, is_first_rank),))


def _backward_course(
    strategy: Strategy, setting: Setting, counts: tuple[int, ...], is_adding: bool, is_first_rank: bool
) -> Iterator[_Held]:
    states = model_states(strategy, setting)
    is_offloaded = offload_of(strategy.rung, setting) is not Offload.NONE
    before_count = last_count = 0
    for place, count in enumerate(counts):
        progress = GradientProgress(before_count, count, is_adding)
        yield _held(_backward(strategy, setting, states, progress, is_first_rank), place)
        if is_offloaded:  # what came last leaves before the next layer's activations are there
            leaving = replace(progress, last_count=last_count)
            yield _held(_backward(strategy, setting, states, leaving, is_first_rank), place, is_turn=True)
        before_count, last_count = count, progress.new_count
    yield _held(_backward_end(strategy, setting, states, last_count, is_adding, is_first_rank), len(counts))


def _held(load: Load, place: int, *, is_turn: bool = False) -> _Held:
    return _Held(load, place, is_turn, load.total_bytes, load.total_bytes - load.ahead_bytes)


def _forward(strategy: Strategy, setting: Setting, states: ModelStates, moment: Moment, is_adding: bool) -> Load:
    """The load of a forward moment: no gradient comes, those of earlier micro-steps are there, and ZeRO-1 keeps its
    bucket until it reduces."""
    width = element_bytes(strategy.rung.dtype)
    stage = strategy.rung.zero_stage
    is_left = is_adding and moment.phase is not Phase.EVALUATE
    trained = parameters(strategy.rung, setting).trained_count
    own = 0 if offload_of(strategy.rung, setting) is not Offload.NONE else own_count(strategy, setting)
    left = {0: trained, 1: trained, 2: own, 3: 0}[stage] if is_left else 0
    buckets = bucket_count(strategy.rung, setting) if stage >= 3 or (stage == 1 and is_left) else 0
    gathered = _gathered(strategy, setting, 0.0)
    referred = reference_gathered_count(strategy.rung, setting) if moment.phase is not Phase.FORWARD else 0
    return Load(
        moment.phase,
        states.parameters_bytes,
        states.gradients_bytes + width * left,
        states.optimizer_bytes,
        moment.activations_bytes,
        states.buffers_bytes + width * (buckets + gathered + referred),
        width * ahead_count(strategy.rung, setting, gathered),
    )


def _backward_end(
    strategy: Strategy, setting: Setting, states: ModelStates, last_count: int, is_adding: bool, is_first_rank: bool
) -> Load:
    """The load when the last gradients, `last_count`, are reduced: nothing is left of the activations."""
    trained = parameters(strategy.rung, setting).trained_count
    progress = GradientProgress(trained, trained, is_adding, last_count)
    return _backward(strategy, setting, states, progress, is_first_rank)


def _backward(
    strategy: Strategy, setting: Setting, states: ModelStates, progress: GradientProgress, is_first_rank: bool
) -> Load:
    """The load of a backward moment, but for its activations."""
    width = element_bytes(strategy.rung.dtype)
    held = gradients(strategy, setting, progress, is_first_rank=is_first_rank)
    done_share = progress.before_count / max(1, parameters(strategy.rung, setting).trained_count)
    gathered = _gathered(strategy, setting, done_share)
    return Load(
        Phase.BACKWARD,
        states.parameters_bytes,
        states.gradients_bytes + held.kept_bytes,
        states.optimizer_bytes,
        0,
        states.buffers_bytes + held.passing_bytes + width * gathered,
        width * ahead_count(strategy.rung, setting, gathered),
    )


def _gathered(strategy: Strategy, setting: Setting, done_share: float) -> int:
    """Elements that ZeRO-3 holds whole. A generation, which comes before each step, has it forget the order of the
    modules (`add_hooks` in trl/models/utils.py): where one micro-step is all, it never knows it, and keeps and fetches
    nothing but what is just used (`release_sub_module` in runtime/zero/partitioned_param_coordinator.py)."""
    known = gathered_count(strategy.rung, setting, done_share)
    if setting.request.task.traits.generates and strategy.gradient_accumulation == 1:
        return min(known, parameters(strategy.rung, setting).largest_count)
    return known

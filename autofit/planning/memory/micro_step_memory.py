"""What one rank holds at each moment of its micro-steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from autofit.domain.outcome import Phase
from autofit.domain.strategy import Strategy
from autofit.domain.trace import Moment
from autofit.planning.identity import ByIdentity
from autofit.planning.parameters import parameters
from autofit.planning.setting import Setting

from .buffers import Gathering, ahead_count, gathering, reference_gathered_count
from .closed_activations import HIGH_FACTOR
from .gradients import GradientProgress, GradientRules, gradient_rules
from .load import Load
from .states import ModelStates, held_as, model_states


def loads_within(
    strategy: Strategy, setting: Setting, moments: Sequence[Moment], *, is_first_rank: bool
) -> Iterator[Load]:
    """The loads of the micro-steps from the second optimizer step on; with accumulation also those of a micro-step that
    adds to earlier ones."""
    states = model_states(strategy, setting)
    terms, course = _terms(strategy, setting, is_first_rank), _activations(ByIdentity(moments))
    return (_beside(states, load) for load in _loads(terms, course))


def largest_within(
    strategy: Strategy, setting: Setting, moments: Sequence[Moment], ranks: Iterable[bool]
) -> Iterator[Load]:
    """Those of `loads_within` of all `ranks`, each told by whether it is the first one, that are the largest by what an
    estimate asks for."""
    states, course = model_states(strategy, setting), _activations(ByIdentity(moments))
    for is_first_rank in ranks:
        for load in _largest(_terms(strategy, setting, is_first_rank), course):
            yield _beside(states, load)


def _beside(states: ModelStates, load: Load) -> Load:
    return Load(
        load.phase,
        states.parameters_bytes,
        states.gradients_bytes + load.gradients_bytes,
        states.optimizer_bytes,
        load.activations_bytes,
        states.buffers_bytes + load.buffers_bytes,
        load.ahead_bytes,
    )


# --- What loads depend on ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Activations:
    """Bytes of activations: in a forward, a reference's and an evaluation's pass, of which the largest moment counts
    since in all else they are alike, at the turn to the backward pass, and in each moment of that, at whose end so many
    gradients are there."""

    passing: tuple[tuple[Phase, int], ...]
    turn_bytes: int
    backward_bytes: tuple[int, ...]
    gradient_counts: tuple[int, ...]


@lru_cache(maxsize=512)
def _activations(moments: ByIdentity[Sequence[Moment]]) -> _Activations:
    phases = (Phase.FORWARD, Phase.REFERENCE, Phase.EVALUATE)
    by_phase = {phase: [one.activations_bytes for one in moments.value if one.phase is phase] for phase in phases}
    backward = [one for one in moments.value if one.phase is Phase.BACKWARD]
    return _Activations(
        tuple((phase, max(sizes)) for phase, sizes in by_phase.items() if sizes),
        [0, *by_phase[Phase.FORWARD]][-1],
        tuple(one.activations_bytes for one in backward),
        tuple(one.gradient_count for one in backward),
    )


@dataclass(frozen=True)
class _Terms:
    """All that the loads depend on beside activations and the states that last: rungs with another optimizer have the
    same."""

    rules: GradientRules
    gathering: Gathering
    reference_count: int  # elements of the reference that are gathered in its pass


def _terms(strategy: Strategy, setting: Setting, is_first_rank: bool) -> _Terms:
    rung, accumulates = strategy.rung, strategy.gradient_accumulation > 1
    key = (_Terms, held_as(rung), rung.gradient_checkpointing.recomputes, accumulates, is_first_rank)
    return setting.once(
        key,
        lambda: _Terms(
            gradient_rules(strategy, setting, is_first_rank=is_first_rank),
            _gathering(strategy, setting),
            reference_gathered_count(rung, setting),
        ),
    )


def _gathering(strategy: Strategy, setting: Setting) -> Gathering:
    """What ZeRO-3 holds whole. A generation, which comes before each step, has it forget the order of the modules
    (`add_hooks` in trl/models/utils.py): where one micro-step is all, it never knows it, and keeps and fetches nothing
    but what is just used (`release_sub_module` in runtime/zero/partitioned_param_coordinator.py)."""
    known = gathering(strategy.rung, setting)
    if setting.request.task.traits.generates and strategy.gradient_accumulation == 1:
        return replace(known, most=min(known.most, parameters(strategy.rung, setting).largest_count))
    return known


# --- Loads beside the states ------------------------------------------------------------------------------------------


_ASKED: tuple[Callable[[Load], float], ...] = (
    lambda load: load.total_bytes,
    lambda load: load.total_bytes - load.ahead_bytes,
    lambda load: load.total_bytes - load.ahead_bytes - load.activations_bytes,
    lambda load: load.total_bytes + (HIGH_FACTOR - 1) * load.activations_bytes,
)
"""What an estimate asks for the largest of: all that is held, what is not gathered ahead, and both where activations
are uncertain."""


@lru_cache(maxsize=8192)
def _largest(terms: _Terms, activations: _Activations) -> tuple[Load, ...]:
    loads = [*_loads(terms, activations)]
    return tuple(dict.fromkeys(max(loads, key=asked) for asked in _ASKED))


def _loads(terms: _Terms, activations: _Activations) -> Iterator[Load]:
    for is_adding in (False, True) if terms.rules.accumulates else (False,):
        for phase, size_bytes in activations.passing:
            yield _passing(terms, phase, size_bytes, is_adding)
        yield from _backward_loads(terms, activations, is_adding)


def _passing(terms: _Terms, phase: Phase, activations_bytes: int, is_adding: bool) -> Load:
    """The load of a moment without gradients: those of earlier micro-steps are there, and ZeRO-1 keeps its bucket until
    it reduces."""
    rules, stage = terms.rules, terms.rules.zero_stage
    is_left = is_adding and phase is not Phase.EVALUATE
    own = 0 if rules.is_offloaded else rules.own_count
    left = {0: rules.known.trained_count, 1: rules.known.trained_count, 2: own, 3: 0}[stage] if is_left else 0
    buckets = rules.buckets_count if stage >= 3 or (stage == 1 and is_left) else 0
    gathered = terms.gathering.count(0.0)
    referred = terms.reference_count if phase is not Phase.FORWARD else 0
    return Load(
        phase,
        gradients_bytes=rules.width_bytes * left,
        activations_bytes=activations_bytes,
        buffers_bytes=rules.width_bytes * (buckets + gathered + referred),
        ahead_bytes=rules.width_bytes * ahead_count(rules.known, gathered),
    )


def _backward_loads(terms: _Terms, activations: _Activations, is_adding: bool) -> Iterator[Load]:
    """The loads of the backward pass that are the largest of it by what an estimate asks for: all that is held or what
    is not gathered ahead, without activations, with those expected, or with HIGH_FACTOR times as many; at last that of
    its end."""
    course = _course(terms.rules, terms.gathering, activations.gradient_counts, is_adding)
    sizes = course.sizes(activations)
    for times in (1.0, 0.0, HIGH_FACTOR) if sizes else ():
        for held_bytes in dict.fromkeys((course.all_bytes, course.least_bytes)):
            together = [held + times * size for held, size in zip(held_bytes, sizes, strict=True)]
            at = together.index(max(together))
            yield replace(course.loads[at], activations_bytes=sizes[at])
    yield course.end


@dataclass(frozen=True)
class _Course:
    """What is held in each moment of the backward pass beside states and activations, and at its `end`, when the last
    gradients are reduced and nothing is left of the activations.

    With offload there are two loads of each moment: what came last leaves before the next layer's activations are
    there, with no more of them than at the turn.
    """

    loads: tuple[Load, ...]
    end: Load
    is_offloaded: bool

    @cached_property
    def all_bytes(self) -> tuple[int, ...]:
        return tuple(load.total_bytes for load in self.loads)

    @cached_property
    def least_bytes(self) -> tuple[int, ...]:
        """What is not gathered ahead."""
        return tuple(load.total_bytes - load.ahead_bytes for load in self.loads)

    def sizes(self, activations: _Activations) -> Sequence[int]:
        """Bytes of the activations beside each load."""
        if not self.is_offloaded:
            return activations.backward_bytes
        turn_bytes = activations.turn_bytes
        return [size for own in activations.backward_bytes for size in (own, min(turn_bytes, own))]


@lru_cache(maxsize=2048)
def _course(rules: GradientRules, whole: Gathering, counts: tuple[int, ...], is_adding: bool) -> _Course:
    """The backward pass in whose moments so many gradients have come."""
    loads = []
    before_count = last_count = 0
    for count in counts:
        progress = GradientProgress(before_count, count, is_adding)
        loads.append(_held(rules, whole, progress))
        if rules.is_offloaded:
            loads.append(_held(rules, whole, replace(progress, last_count=last_count)))
        before_count, last_count = count, progress.new_count
    trained = rules.known.trained_count
    end = _held(rules, whole, GradientProgress(trained, trained, is_adding, last_count))
    return _Course(tuple(loads), end, rules.is_offloaded)


def _held(rules: GradientRules, whole: Gathering, progress: GradientProgress) -> Load:
    held = rules.held(progress)
    gathered = whole.count(progress.before_count / max(1, rules.known.trained_count))
    return Load(
        Phase.BACKWARD,
        gradients_bytes=held.kept_bytes,
        buffers_bytes=held.passing_bytes + rules.width_bytes * gathered,
        ahead_bytes=rules.width_bytes * ahead_count(rules.known, gathered),
    )

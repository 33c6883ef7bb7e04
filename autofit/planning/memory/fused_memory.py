"""What one rank holds while LOMO or AdaLomo trains, moment by moment.

The gradient of a parameter is reduced, used and dropped before the next one comes (Lv et al., 2306.09782, section 3.1),
and so it counts among the activations until then. Under ZeRO-3 (DeepSpeed 0.19.8 with the settings of
`export/deepspeed_config.py`) a module's parameters are whole while it computes, and the head's throughout: trl's loss
reads them from outside of it, so they belong to the whole model from then on (register_external_parameter in
runtime/zero/partition_parameters.py). A head that scores is a vector, and no loss reads it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from autofit.domain.knobs.dtype import FP32_BYTES, Dtype, element_bytes
from autofit.domain.knobs.optimizer import Optimizer
from autofit.domain.outcome import Phase
from autofit.domain.strategy import Strategy
from autofit.domain.trace import Moment
from autofit.planning.fused_update import CHUNK_ELEMENTS
from autofit.planning.parameters import Parameters, parameters
from autofit.planning.setting import Setting

from .load import Load
from .states import ModelStates, model_states, part_count

ROUNDED_BYTES = 2 * FP32_BYTES + 1
"""Bytes that are made of each element of a chunk to write it in 16 bits: its new value and the random bits that round
it, in 32, and whether it is a number (worker/fused_update/rounding.py). fp32 weights are updated where they lie."""

BLOCK_BYTES = {Optimizer.LOMO: 0, Optimizer.ADALOMO: FP32_BYTES}
"""Bytes that are made of each element of the rows that a chunk lies in: AdaLomo's update."""

MOST_DENSE = 2
"""The largest matrix of a layer without experts has so many times the elements of hidden by intermediate size: gate
and up projection in one. Experts that lie in one tensor have more, and their other one half of it."""


def fused_loads(strategy: Strategy, setting: Setting, moments: Sequence[Moment]) -> Iterator[Load]:
    """The loads in the order of time, each at its own peak; with accumulation also those of a micro-step that adds to
    earlier ones."""
    tensors = _tensors(parameters(strategy.rung, setting), setting)
    states = model_states(strategy, setting)
    places = [*_by_place(moments, tensors, strategy)]
    forward_bytes = [one.activations_bytes for one in moments if one.phase is Phase.FORWARD]
    loss = next((one for one in moments if one.phase is Phase.BACKWARD), None)
    for is_adding in (False, True)[: min(2, strategy.gradient_accumulation)]:
        before_count = 0
        for moment, at_work in places:
            kept_bytes = _kept_bytes(strategy, setting, moment.phase, before_count, is_adding)
            load = _load(strategy, setting, states, moment, at_work, kept_bytes)
            yield load
            if moment.phase is Phase.BACKWARD:
                left_bytes = _left_bytes(strategy, moment, at_work, forward_bytes if moment is loss else [])
                yield _update(strategy, setting, load, at_work.count, left_bytes)
            before_count = moment.gradient_count
    saved = _AtWork(0, tensors.end + tensors.stacked_layer)  # piece by piece, but experts are taken apart
    yield _load(strategy, setting, states, Moment(Phase.SAVE, 0, 0), saved, 0)


# --- What is whole ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tensors:
    """Elements of the largest tensors: the head's (0 where it scores), the input embeddings' beside it (0 where they
    are tied), a layer's; of all of a layer that are ever taken apart; of the experts of a layer that lie in one tensor;
    and of what autograd keeps whole of all layers, experts and viewed weights."""

    head: int
    embeddings: int
    inner: int
    layer: int
    stacked_layer: int
    kept: int

    @property
    def end(self) -> int:
        """The larger of the head and the input embeddings."""
        return max(self.head, self.embeddings)


@dataclass(frozen=True)
class _AtWork:
    """Elements of the largest parameter that a moment updates, how many gradients of it there were at the moment's
    peak, and elements of all parameters that are whole meanwhile."""

    count: int
    whole_count: int
    gradients: int = 1


def _tensors(known: Parameters, setting: Setting) -> _Tensors:
    shape = setting.shape
    table = shape.vocabulary_size * shape.hidden_size
    # A layer's tensor may be as large as the table: of those there are as many as layers.
    tables = sum(group.tensor_count % shape.layer_count for group in known.groups if group.element_count == table)
    inner = [one for one in known.groups if one.element_count != table or one.tensor_count >= shape.layer_count]
    largest = max((group.element_count for group in inner), default=0)
    has_stacks = largest > MOST_DENSE * shape.hidden_size * shape.intermediate_size
    stacked_layer = sum(one.element_count for one in inner if has_stacks and MOST_DENSE * one.element_count >= largest)
    divided = [one for one in inner if one.element_count > setting.zero_sizes.persistence_threshold]
    scores = setting.request.task.traits.scores
    return _Tensors(
        0 if scores else table,
        table if scores or tables > 1 else 0,
        largest,
        sum(one.element_count * (one.tensor_count // shape.layer_count) for one in divided),
        stacked_layer,
        stacked_layer * shape.layer_count + known.viewed_count,
    )


def _by_place(moments: Sequence[Moment], tensors: _Tensors, strategy: Strategy) -> Iterator[tuple[Moment, _AtWork]]:
    """Each moment with what is at work: the embeddings come first and the loss last, and the other way round on the way
    back; an evaluation has its peak at the loss, as a forward pass has.

    Experts are gathered together, and put together by a copy beside what was gathered (AllGatherCoalescedHandle in
    runtime/zero/partition_parameters.py); on the way back the room of their gradients is free then. Autograd keeps them
    whole from a layer's forward to its backward pass, unless that computes them again: their products are no linear
    layers, of which DeepSpeed lets the weights go; so it does weights of which it keeps views. What a layer gathers
    when it is computed again stays until that module is through whose backward pass asked for it, the layer's last
    (ds_recompute_parameters in runtime/zero/partitioned_param_coordinator.py).
    """
    is_again = strategy.rung.gradient_checkpointing.recomputes
    # The gradient of a tied head waits for that of the embeddings, and is added to it.
    is_tied = tensors.embeddings == 0
    loss = _AtWork(0 if is_tied else tensors.head, tensors.head)
    layer = _AtWork(tensors.inner, tensors.head + max(tensors.inner, tensors.stacked_layer))
    gathering = replace(layer, whole_count=layer.whole_count + tensors.stacked_layer)
    layer_again = replace(layer, whole_count=tensors.head + max(tensors.inner, tensors.layer))
    embeddings = _AtWork(tensors.end, tensors.head + tensors.embeddings, 2 if is_tied else 1)
    held_count = round(tensors.kept * (1 - strategy.rung.gradient_checkpointing.share))
    for phase, first, inner, last in (
        (Phase.FORWARD, embeddings, gathering, loss),
        (Phase.BACKWARD, loss, layer_again if is_again else layer, embeddings),
        (Phase.EVALUATE, loss, loss, loss),
    ):
        own = [moment for moment in moments if moment.phase is phase]
        places = [first, *[inner] * (len(own) - 2), last][: len(own)]
        for index, (moment, place) in enumerate(zip(own, places, strict=True)):
            passed = {Phase.FORWARD: index, Phase.BACKWARD: len(own) - 1 - index}.get(phase, 0)
            held = held_count * passed // max(1, len(own) - 1)
            yield moment, replace(place, whole_count=place.whole_count + held)


def _is_divided(strategy: Strategy, setting: Setting) -> bool:
    return strategy.rung.zero_stage >= 3 and setting.is_divided


# --- What it takes ----------------------------------------------------------------------------------------------------


def _load(
    strategy: Strategy, setting: Setting, states: ModelStates, moment: Moment, at_work: _AtWork, kept_bytes: int
) -> Load:
    is_divided = _is_divided(strategy, setting)
    return Load(
        moment.phase,
        states.parameters_bytes,
        kept_bytes,
        states.optimizer_bytes,
        moment.activations_bytes,
        element_bytes(strategy.rung.dtype) * at_work.whole_count if is_divided else 0,
    )


def _update(strategy: Strategy, setting: Setting, load: Load, count: int, left_bytes: int) -> Load:
    """The load of an update of `count` elements: their gradient, or, where it is divided, first its slice beside it and
    then the slice alone, and what is made of a chunk of it."""
    rung, is_divided = strategy.rung, _is_divided(strategy, setting)
    slice_count = -(-count // setting.rank_count) if is_divided else count
    made_bytes = BLOCK_BYTES[rung.optimizer] * min(CHUNK_ELEMENTS, count)
    made_bytes += 0 if rung.dtype is Dtype.FP32 else ROUNDED_BYTES * min(CHUNK_ELEMENTS, slice_count)
    gradient_bytes = element_bytes(rung.dtype) * count
    if is_divided:
        held_bytes = max(gradient_bytes, made_bytes) + element_bytes(rung.dtype) * slice_count
    else:
        held_bytes = gradient_bytes + made_bytes
    return replace(load, activations_bytes=left_bytes, buffers_bytes=load.buffers_bytes + held_bytes)


def _left_bytes(strategy: Strategy, moment: Moment, at_work: _AtWork, forward_bytes: Sequence[int]) -> int:
    """What activations hold beside the largest gradient of a moment as it is used. Once the loss has the head's,
    nothing is left but what the layers have kept, which their last one's moment in the forward pass tells
    (`forward_bytes`, empty but for the loss); else at most what the moment holds at its peak."""
    gradients_bytes = element_bytes(strategy.rung.dtype) * at_work.gradients * at_work.count
    most_bytes = max(0, moment.activations_bytes - gradients_bytes)
    return min(most_bytes, forward_bytes[-2]) if len(forward_bytes) > 1 else most_bytes


def _kept_bytes(strategy: Strategy, setting: Setting, phase: Phase, before_count: int, is_adding: bool) -> int:
    """Bytes of the slices of gradients that micro-steps have added up, in the rung's dtype: the last of them uses each
    as it comes."""
    if phase is Phase.EVALUATE or strategy.gradient_accumulation == 1:
        return 0
    rung = strategy.rung
    part, trained = part_count(rung, setting), max(1, parameters(rung, setting).trained_count)
    is_last = is_adding and strategy.gradient_accumulation == 2
    came = part * before_count // trained
    return element_bytes(rung.dtype) * (part - came if is_last else part if is_adding else came)

"""Activations moment by moment, from traces of the real model."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.attention import Attention
from autofit.domain.knobs.method import Method
from autofit.domain.outcome import Phase
from autofit.domain.request import Request
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.trace import MicroStep, Moment, Trace, Work
from autofit.planning.answers import evaluated_rows, generated_rows
from autofit.planning.argument_words import is_switched_on
from autofit.planning.data.batch_widths import PAD_TO_MULTIPLE, padded_tokens
from autofit.planning.identity import ByIdentity
from autofit.planning.micro_batches import asked_micro_batches
from autofit.planning.plain_torch import is_autocast
from autofit.planning.reference import compares_rows, has_reference_pass
from autofit.planning.setting import Setting

from .sdpa import with_same_rules
from .states import are_states_too_large

TRACED_MICRO_BATCHES = (1, 2, 4)
"""Every moment's bytes are the largest of several linear functions of the rows; from four rows on one of them leads."""


def wanted_micro_steps(rungs: Iterable[Rung], setting: Setting) -> tuple[MicroStep, ...]:
    """What must be traced so that no estimate of `rungs` that may fit needs the closed form; UsageError as
    `micro_batches`."""
    request = setting.request
    asked = asked_micro_batches(request, setting.rank_count)
    evaluated = [evaluated_rows(request, size, setting.rank_count) for size in asked if request.has_evaluation]
    sizes = sorted({rows for size in (*asked, *evaluated) for rows in _traced_for(size)})
    wanted = [rung for rung in rungs if not _is_hopeless(rung, setting)]
    return tuple(dict.fromkeys(micro_step(rung, rows, setting) for rung in wanted for rows in sizes))


def _traced_for(micro_batch: int) -> tuple[int, ...]:
    """The micro-batches whose traces tell this one: its own, or the two whose line it lies on."""
    if micro_batch in TRACED_MICRO_BATCHES:
        return (micro_batch,)
    above = next((rows for rows in TRACED_MICRO_BATCHES if rows > micro_batch), TRACED_MICRO_BATCHES[-1])
    below = [rows for rows in TRACED_MICRO_BATCHES if rows < above]
    return (below[-1], above)


def _is_hopeless(rung: Rung, setting: Setting) -> bool:
    """Whether its states alone are too large: of plain torch, whose traces serve no other rung."""
    return is_autocast(rung, setting) and are_states_too_large(rung, setting)


def traced_as(rung: Rung, setting: Setting) -> Hashable:
    """What is the same for rungs whose micro-steps are traced alike: those that differ in offload or optimizer."""
    return (
        rung.method, rung.attention, rung.gradient_checkpointing, rung.dtype, rung.quantization,
        rung.zero_stage >= 3, is_autocast(rung, setting),
    )  # fmt: skip


def micro_step(rung: Rung, micro_batch: int, setting: Setting) -> MicroStep:
    """The worst micro-batch of a rung, as wide as the longest sequence is padded."""
    key = (micro_step, traced_as(rung, setting), micro_batch)
    return setting.once(key, lambda: _micro_step(rung, micro_batch, setting))


def _micro_step(rung: Rung, micro_batch: int, setting: Setting) -> MicroStep:
    tokens = _padded(setting.worst_tokens, setting)
    return MicroStep(
        lora=setting.request.lora if rung.method is Method.LORA else None,
        attention=rung.attention,
        gradient_checkpointing=rung.gradient_checkpointing,
        dtype=rung.dtype,
        kind=setting.kind,
        micro_batch=micro_batch,
        tokens=tokens,
        is_padded=tokens > setting.worst_tokens or (setting.is_padded and setting.request.sequences(micro_batch) > 1),
        capability=with_same_rules(setting.capability) if _is_chosen_by_torch(rung, setting) else None,
        kernel_packages=tuple(one for one in setting.called_packages if one in setting.installed),
        keeps_linear_inputs=rung.zero_stage >= 3 and rung.method is Method.LORA,
        is_autocast=is_autocast(rung, setting),
        quantization=rung.quantization,
        task=setting.request.task,
        completion_tokens=setting.request.completion_tokens,
        generated_rows=generated_rows(setting.request, setting.rank_count),
        has_reference=has_reference_pass(setting.request),
        compares_rows=compares_rows(setting.request),
        disables_dropout=_disables_dropout(setting.request),
    )


def _padded(tokens: int, setting: Setting) -> int:
    """How wide sequences of `tokens` are padded: trl pads prompts and answers that were generated each for itself."""
    multiple, answer_tokens = PAD_TO_MULTIPLE[setting.kind], setting.request.completion_tokens
    return padded_tokens(tokens - answer_tokens, multiple) + padded_tokens(answer_tokens, multiple)


def _disables_dropout(request: Request) -> bool:
    by_itself = request.task.traits.disables_dropout
    return is_switched_on(request.training.extra_arguments, "disable_dropout", by_itself=by_itself)


def _is_chosen_by_torch(rung: Rung, setting: Setting) -> bool:
    return rung.attention is Attention.SDPA and setting.kind is DeviceKind.CUDA


def moments(strategy: Strategy, setting: Setting) -> tuple[Moment, ...] | None:
    """The trace of the strategy's micro-step; between and beyond the traced micro-batches a straight line for each
    moment; None where nothing like it was traced.

    Another number of tokens than the traced one is scaled in proportion: too much for shorter rows, for what does not
    depend on the tokens shrinks too, and too little for longer ones with the eager kernel. Where nothing was traced for
    the kernels of this GPU (advice on other machines), another GPU's serve.
    """
    found = _like(strategy.rung, strategy.micro_batch, setting)
    if not setting.request.has_evaluation:
        return found
    evaluated = evaluated_rows(setting.request, strategy.micro_batch, setting.rank_count)
    if found is None or evaluated == strategy.micro_batch:
        return found
    others = _like(strategy.rung, evaluated, setting)
    assert others is not None  # the same traces tell both
    return (*(one for one in found if one.phase is not Phase.EVALUATE), *_evaluation(others))


def _like(rung: Rung, micro_batch: int, setting: Setting) -> tuple[Moment, ...] | None:
    key = (_like, traced_as(rung, setting), micro_batch)
    return setting.once(
        key,
        lambda: _moments(
            micro_step(rung, micro_batch, setting),
            ByIdentity(setting.traces),
            has_evaluation=setting.request.has_evaluation,
        ),
    )


def _evaluation(moments: Iterable[Moment]) -> Iterator[Moment]:
    return (moment for moment in moments if moment.phase is Phase.EVALUATE)


@lru_cache(maxsize=512)  # settings that were sized for a strategy have the same traces
def _moments(
    wanted: MicroStep, traces: ByIdentity[tuple[Trace, ...]], *, has_evaluation: bool
) -> tuple[Moment, ...] | None:
    """Of a training that never evaluates without the moments of an evaluation."""
    alike = _by_kind(traces).get(_kind(wanted), [])
    own = [trace for trace in alike if trace.of.capability == wanted.capability]
    known = _nearest_tokens(wanted, own or alike)
    if not known:
        return None
    by_rows = _through(known, wanted.micro_batch)
    asked = (moment for moment in by_rows if has_evaluation or moment.phase is not Phase.EVALUATE)
    return tuple(_scaled(moment, wanted.tokens / known[0].of.tokens) for moment in asked)


@lru_cache(maxsize=8)
def _by_kind(traces: ByIdentity[tuple[Trace, ...]]) -> Mapping[MicroStep, list[Trace]]:
    """The traces that may stand in for each other."""
    found: dict[MicroStep, list[Trace]] = {}
    for trace in traces.value:
        found.setdefault(_kind(trace.of), []).append(trace)
    return found


def _kind(of: MicroStep) -> MicroStep:
    return replace(of, micro_batch=0, tokens=0, capability=None)


def _nearest_tokens(wanted: MicroStep, alike: list[Trace]) -> list[Trace]:
    """The traces of one width, smallest micro-batch first: the wanted one, or the next above it, or the widest."""
    widths = {trace.of.tokens for trace in alike}
    width = min((tokens for tokens in widths if tokens >= wanted.tokens), default=max(widths, default=0))
    return sorted((trace for trace in alike if trace.of.tokens == width), key=lambda trace: trace.of.micro_batch)


def _through(known: list[Trace], micro_batch: int) -> tuple[Moment, ...]:
    exact = next((trace for trace in known if trace.of.micro_batch == micro_batch), None)
    if exact is not None:
        return exact.moments
    above = next((i for i, trace in enumerate(known) if trace.of.micro_batch > micro_batch), len(known) - 1)
    low, high = known[max(0, above - 1)], known[above]
    if low is high or len(low.moments) != len(high.moments):
        return tuple(_scaled(moment, micro_batch / high.of.micro_batch) for moment in high.moments)
    along = (micro_batch - low.of.micro_batch) / (high.of.micro_batch - low.of.micro_batch)
    return tuple(_between(one, other, along) for one, other in zip(low.moments, high.moments, strict=True))


def _between(low: Moment, high: Moment, along: float) -> Moment:
    """A moment between two others: `low` at 0, `high` at 1, on the same line beyond."""

    def at(one: int, other: int) -> int:
        return max(0, round(one + along * (other - one)))

    one, other = low.work, high.work
    work = Work(
        at(one.matmul_flop, other.matmul_flop),
        at(one.matmul_bytes, other.matmul_bytes),
        at(one.other_bytes, other.other_bytes),
        at(one.kernel_count, other.kernel_count),
        at(one.attention_flop, other.attention_flop),
    )
    return replace(high, activations_bytes=at(low.activations_bytes, high.activations_bytes), work=work)


def _scaled(moment: Moment, factor: float) -> Moment:
    if factor == 1:
        return moment
    nothing = Moment(moment.phase, 0, moment.gradient_count, Work(kernel_count=moment.work.kernel_count))
    return _between(nothing, moment, factor)

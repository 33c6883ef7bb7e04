"""A plan as people read it: the machine, the ladder, the pick, what would fit, the next command."""

from __future__ import annotations

from collections.abc import Sequence

from autofit.domain.knobs.method import METHOD, Method
from autofit.domain.objective import Objective
from autofit.domain.plan import Candidate, Plan, Rehearsal, Rehearsed, Verdict
from autofit.domain.strategy import Change, Strategy
from autofit.domain.units import format_bytes
from autofit.planning.memory.sdpa import ASSUMED
from autofit.report.choice_text import flags_text, gives_up_text, plainer_text, resort_lines
from autofit.report.header import batch_text, machine_text, model_name, model_text, task_text
from autofit.report.line import WIDTH, Line, Style, command_lines, labelled, wrap
from autofit.report.ratios import candidate_ratios_text

from .plan_figures import REHEARSED, Terms, cost_text, host_text, memory_text, shows_host, speed_phrase
from .plan_table import device_word, plan_table

_LABEL_COLUMNS = 10
_BEST = {
    Objective.SPEED: "the fastest",
    Objective.MEMORY: "the least memory",
    Objective.ENERGY: "the fastest, which takes the least energy at the power of the devices,",
    Objective.BALANCED: "the greatest product of SpeedUp and MemoryUp",
}
_RELATIVE = "relative to the pick: this device's speed is unknown until something was measured on it"


def plan_lines(plan: Plan, terms: Terms, next_command: Sequence[str], *, width: int = WIDTH) -> list[Line]:
    lines = [*header_lines(plan, width=width), (), *plan_table(plan, terms, width=width), ()]
    lines += _pick_lines(plan, terms, width) if plan.choice is not None else _nothing_lines(plan, width)
    lines += adamw_lines(plan, width=width)
    lines += would_fit_lines(plan, width=width) + resort_lines(plan.resorts, width=width)
    lines += rehearsal_lines(plan, width=width)
    return lines + (command_lines(next_command, width=width, columns=_LABEL_COLUMNS) if plan.possible else [])


def header_lines(plan: Plan, *, width: int = WIDTH) -> list[Line]:
    lines = labelled("machine", machine_text(plan.hardware), width=width)
    lines += _quiet(plan.hardware.notes, width)
    lines += labelled("model", model_text(plan.model), width=width)
    lines += labelled("request", request_text(plan), width=width)
    return lines + _quiet(plan.notes, width) + _quiet(_sdpa_notes(plan), width)


def _sdpa_notes(plan: Plan) -> tuple[str, ...]:
    """The notes on torch's kernels: `sdpa is predicted with torch's flash and memory-efficient kernels.`"""
    if not plan.sdpa_kernels:
        return ()
    names = " and ".join(kernel.value for kernel in plan.sdpa_kernels)
    text = f"sdpa is predicted with torch's {names} kernel{'s' if len(plan.sdpa_kernels) > 1 else ''}"
    if all(device.compute_capability is not None for device in plan.hardware.devices):
        return (f"{text}.",)
    assumed = ".".join(map(str, ASSUMED))
    return (f"{text}, as on compute capability {assumed}: that of the GPUs is unknown.",)


def request_text(plan: Plan) -> str:
    """The request of a plan in one line: `2,048 tokens · global batch 32 · LoRA or all parameters · bf16`, with a task
    that is not supervised fine-tuning before it."""
    request = plan.request
    pinned = request.pins.of(METHOD)
    method = " or ".join(value.text for value in METHOD.values if pinned in (None, value.value))
    task = task_text(request)
    parts = [*([task] if task else []), f"{request.sequence_length:,} tokens", batch_text(request), method]
    return " · ".join([*parts, *sorted({one.strategy.rung.dtype.value for one in plan.candidates})])


def would_fit_lines(plan: Plan, *, width: int = WIDTH) -> list[Line]:
    """The lines of what would fit; with a pick, these are the ways to train all parameters."""
    changes = [text.rpartition(" (") for text in plan.would_fit]
    longest = max((len(change) for change, _, _ in changes), default=0)
    texts = [f"{change.ljust(longest)} {opening}{figures}" for change, opening, figures in changes]
    labels = ["would fit", *[""] * len(texts)]
    return [line for label, text in zip(labels, texts, strict=False) for line in _labelled(label, text, width)]


def adamw_lines(plan: Plan, *, width: int = WIDTH) -> list[Line]:
    """The peak of the first candidate that updates in the backward pass, by what AdamW with ZeRO-3 would take."""
    fused = next((one for one in plan.candidates if one.estimate is not None and one.adamw_peak_bytes), None)
    if fused is None or fused.estimate is None or not fused.adamw_peak_bytes:
        return []
    share = 100 * fused.estimate.memory.peak_bytes / fused.adamw_peak_bytes
    usual = f"what AdamW with ZeRO-3 would take on the same rows, {format_bytes(fused.adamw_peak_bytes)}"
    return _labelled("memory", f"{fused.strategy} takes {share:.0f} % of {usual} per {device_word(plan)}", width)


def rehearsal_lines(plan: Plan, *, width: int = WIDTH, name: str = "") -> list[Line]:
    """What was measured, on what, what was added, and what it cannot tell; `name` tells the plan from others."""
    rehearsal = plan.rehearsal
    if rehearsal is None:
        return []
    texts = [_rehearsed_text(plan, rehearsal), _untold_text(rehearsal)] if rehearsal.count else ["nothing"]
    first, *others = [f"{name}: {texts[0]}" if name else texts[0], *texts[1:], *rehearsal.notes]
    lines = _labelled("rehearsed", first, width)
    return lines + [line for text in others for line in _labelled("", text, width, Style.QUIET)]


def _rehearsed_text(plan: Plan, rehearsal: Rehearsal) -> str:
    count = f"{rehearsal.count} rung{'' if rehearsal.count == 1 else 's'} ({REHEARSED})"
    text = f"{count}, rank 0 of {plan.hardware.rank_count} alone, on {rehearsal.device}"
    best = next((one for one in plan.candidates if one.rehearsed is not None), None)
    added = [] if best is None or best.rehearsed is None else _added(best.strategy, best.rehearsed)
    return f"{text}; from the estimates: {', '.join(added)}" if added else text


def _added(strategy: Strategy, rehearsed: Rehearsed) -> list[str]:
    parts = []
    if rehearsed.communicator_bytes:
        parts.append(f"{format_bytes(rehearsed.communicator_bytes)} for the communicator")
    if rehearsed.communication_s:
        parts.append(f"{rehearsed.communication_s:.2g} s of communication a step ({strategy})")
    return parts


def _untold_text(rehearsal: Rehearsal) -> str:
    """What one rank on this device cannot show."""
    unseen = "Not seen: the real network, and whether another rank needs more or is slower."
    if rehearsal.is_timed:
        return unseen
    if rehearsal.is_same_kind:
        return f"{unseen} Times here say nothing of the machine planned for: speeds are estimates."
    return f"{unseen} A device of another kind: other kernels ran, in memory of their own; speeds are estimates."


def _pick_lines(plan: Plan, terms: Terms, width: int) -> list[Line]:
    choice = plan.choice
    assert choice is not None
    if choice.verdict is Verdict.FITS:
        lines = _labelled("pick", _candidate_text(plan, choice), width, Style.GOOD)
    else:
        lines = _labelled("pick", f"if it fits: {_candidate_text(plan, choice)}", width)
    lines += _labelled("why", f"{_BEST[plan.request.objective]} {_among(choice)}: {doubt_text(choice)}", width)
    ratios = candidate_ratios_text(choice, plan.baseline)
    lines += _labelled("ratios", ratios, width) if ratios else []
    if choice.estimate is not None and not choice.estimate.speed.is_absolute:
        lines += _labelled("speed", _RELATIVE, width)
    due = terms.cost(plan, choice)
    lines += [] if due is None else _labelled("cost", cost_text(due), width)
    given_up = gives_up_text(choice.strategy)
    lines += _labelled("gives up", given_up, width) if given_up else []
    return lines + _beside_lines(plan, choice, width)


def _beside_lines(plan: Plan, choice: Candidate, width: int) -> list[Line]:
    """What changes less of the training than the pick does, unless all that it changes was pinned."""
    changed = choice.strategy.rung.changed
    if all(plan.request.pins.settles(knob) for knob, _ in changed):
        return []
    if choice.strategy.rung.change is Change.ADAPTERS:
        return _labelled("full", _full_text(plan), width)
    return _labelled("plain", _plain_text(plan, choice), width)


def _plain_text(plan: Plan, choice: Candidate) -> str:
    plain = plan.plain
    if plain is None:
        return f"no rung {plainer_text(choice.strategy.rung)} is expected to fit"
    words = flags_text(choice.strategy.rung, plain.strategy.rung)
    return f"{words}: {_beside_text(plan, plain)}"


def _among(choice: Candidate) -> str:
    is_timed = choice.rehearsed is not None and choice.rehearsed.communication_s is not None
    if not is_timed:
        return "that is expected to fit"
    return "of the rehearsed that fit" if choice.verdict is Verdict.FITS else "of the rehearsed that may fit"


def doubt_text(one: Candidate) -> str:
    """The reason of a verdict, with the doubt that is left: `needs 73.1 GB to 84.2 GB of 85.1 GB, only a probe can
    tell`."""
    return f"{one.reason}, only a probe can tell" if one.verdict is Verdict.PROBE else one.reason


def _candidate_text(plan: Plan, candidate: Candidate) -> str:
    assert candidate.estimate is not None
    has = f"{format_bytes(plan.hardware.device_memory_bytes)} per {device_word(plan)}"
    speed = f" · {speed_phrase(plan, candidate)}" if candidate.estimate.speed.is_absolute else ""
    host = f" · {_host_text(plan, candidate)}" if shows_host(plan, candidate) else ""
    share = candidate.estimate.memory.kept_share
    kept = "" if share is None else f", {share:.0%} of the optimizer there"
    return f"{candidate.strategy}{speed} · {memory_text(candidate)} of {has}{kept}{host}"


def _host_text(plan: Plan, candidate: Candidate) -> str:
    return f"{host_text(candidate)} of {format_bytes(plan.hardware.host_available_bytes)} host memory"


def _full_text(plan: Plan) -> str:
    if plan.plain is None:
        count = sum(one.strategy.rung.method is Method.FULL for one in plan.possible)
        text = f"sure to fit, {count} may" if count else "expected to fit"
        return f"no rung with all parameters is {text}" + ("; it would with" if plan.would_fit else "")
    return f"--method full: {_beside_text(plan, plan.plain)}"


def _beside_text(plan: Plan, one: Candidate) -> str:
    is_sure = one.verdict is Verdict.FITS
    return f"{one.strategy}{'' if is_sure else ', if it fits'} · {speed_phrase(plan, one)} · {memory_text(one)}"


def _nothing_lines(plan: Plan, width: int) -> list[Line]:
    pinned = plan.request.pins.of(METHOD)
    method = "" if pinned is None else f", {METHOD.of(pinned).text}"
    count = len(plan.possible)
    found = f"sure to fit, {count} rung{'' if count == 1 else 's'} may" if count else "expected to fit"
    text = f"Nothing is {found}: {model_name(plan.model)}{method}, {plan.request.sequence_length:,} tokens."
    lines: list[Line] = [((row, Style.BAD),) for row in wrap(text, width)]
    closest = plan.candidates[0]
    return lines + _labelled("closest", f"{closest.strategy}: {doubt_text(closest)}", width)


def _quiet(notes: tuple[str, ...], width: int) -> list[Line]:
    return [line for note in notes for line in labelled("", note, width=width, style=Style.QUIET)]


def _labelled(label: str, text: str, width: int, style: Style = Style.PLAIN) -> list[Line]:
    return labelled(label, text, width=width, columns=_LABEL_COLUMNS, style=style)

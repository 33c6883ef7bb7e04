"""What was chosen and why, the full-parameter rung beside it, and what is said when nothing fits."""

from __future__ import annotations

from autofit.domain.event import Chosen
from autofit.domain.knobs.method import METHOD, Method
from autofit.domain.trial import Choice, GiveUp
from autofit.domain.units import brief_seconds, format_bytes

from .line import WIDTH, Line, Style, labelled, wrap
from .view import View


def choice_lines(view: View, chosen: Chosen, *, width: int = WIDTH) -> list[Line]:
    """The lines `choice`, `why` and, beside LoRA, `full`."""
    text = f"{strategy_text(chosen.choice)} · {_how(chosen)}"
    lines = labelled("choice", text, width=width, style=Style.GOOD)
    lines += labelled("why", chosen.choice.why, width=width)
    full = full_text(chosen.choice, is_free=view.request is None or view.request.pins.of(METHOD) is None)
    return lines + (labelled("full", full, width=width) if full else [])


def strategy_text(choice: Choice) -> str:
    measured = choice.measured
    if measured is None:
        return f"{choice.strategy} · not probed"
    speed = f"{measured.tokens_per_s:,.0f} tokens/s"
    return f"{choice.strategy} · {speed} · {format_bytes(measured.peak_device_bytes)}"


def _how(chosen: Chosen) -> str:
    if chosen.is_remembered:
        return "remembered from the run folder"
    counts = [(chosen.probe_count, "probe"), (chosen.rehearsal_count, "rehearsal")]
    texts = [f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts if count or word == "probe"]
    return f"decided in {brief_seconds(chosen.decided_s)}, {', '.join(texts)}"


def full_text(choice: Choice, *, is_free: bool = True) -> str:
    """The way to all parameters from a LoRA choice; empty when the choice trains them or LoRA was asked for."""
    if choice.strategy.rung.method is not Method.LORA:
        return ""
    if choice.full is None:
        return "all parameters: no rung that was probed fits" if is_free else ""
    return f"all parameters: {choice.full}, {_full_figures(choice)}   --method full"


def _full_figures(choice: Choice) -> str:
    measured, expected = choice.full_measured, choice.full_expected
    if measured is not None:
        return f"{measured.tokens_per_s:,.0f} tokens/s, {format_bytes(measured.peak_device_bytes)}"
    if expected is None:
        return "not measured"
    return f"about {expected.tokens_per_s:,.0f} tokens/s, {expected.low:,.0f} to {expected.high:,.0f} (predicted)"


_LABEL_COLUMNS = 10


def give_up_lines(view: View, action: GiveUp, *, width: int = WIDTH) -> list[Line]:
    lines: list[Line] = [((row, Style.BAD),) for row in wrap(_headline(view, action), width)]
    lines += labelled("why", action.why, width=width, columns=_LABEL_COLUMNS) if action.why else []
    if action.closest is not None:
        lines += labelled("closest", _closest(view, action), width=width, columns=_LABEL_COLUMNS)
    for label, text in zip(["would fit"] + [""] * len(action.would_fit), action.would_fit, strict=False):
        lines += labelled(label, text, width=width, columns=_LABEL_COLUMNS)
    return lines


def _headline(view: View, action: GiveUp) -> str:
    what = [view.shape.name if view.shape is not None else "this model"]
    if view.request is not None:
        method = view.request.pins.of(METHOD)
        what += [] if method is None else [METHOD.of(method).text]
        what.append(f"{view.request.sequence_length:,} tokens")
    found = "fits" if action.is_memory else "could train"  # what failed otherwise says nothing of memory
    return f"Nothing on this machine {found} {', '.join(what)}."


def _closest(view: View, action: GiveUp) -> str:
    if action.needs_bytes is None:
        return str(action.closest)
    has = "" if action.has_bytes is None else f" of {format_bytes(action.has_bytes)} per {view.device_word}"
    return f"{action.closest} needs {format_bytes(action.needs_bytes)}{has}"

"""What was chosen and why, what it gives up, the plain rung beside it, and what is said when nothing fits."""

from __future__ import annotations

from collections.abc import Sequence

from autofit.domain.event import Chosen
from autofit.domain.knobs.method import METHOD
from autofit.domain.knobs.pins import Pins
from autofit.domain.resort import Resort
from autofit.domain.strategy import Change, Rung, Strategy
from autofit.domain.trial import Beside, Choice, GiveUp
from autofit.domain.units import brief_seconds, format_bytes, rough_bytes, rough_speed

from .header import model_name
from .line import WIDTH, Line, Style, labelled, wrap
from .view import View


def choice_lines(view: View, chosen: Chosen, *, width: int = WIDTH) -> list[Line]:
    """The lines `choice`, `why`, `before` for what the full run has left, and, where the training is not the plain one,
    `gives up` and what stands beside."""
    text = f"{strategy_text(chosen.choice)} · {_how(chosen)}"
    lines = labelled("choice", text, width=width, style=Style.GOOD)
    lines += labelled("why", chosen.choice.why, width=width)
    lines += [line for text in left_texts(chosen.choice) for line in labelled("before", text, width=width)]
    pins = view.request.pins if view.request is not None else Pins()
    beside = [
        ("gives up", gives_up_text(chosen.choice.strategy)),
        (beside_label(chosen.choice), beside_text(chosen.choice, pins)),
    ]
    return lines + [line for label, told in beside if told for line in labelled(label, told, width=width)]


def strategy_text(choice: Choice) -> str:
    measured = choice.measured
    if measured is None:
        return f"{choice.strategy} · not probed"
    speed = f"{measured.tokens_per_s:,.0f} tokens/s"
    return f"{choice.strategy} · {speed} · {format_bytes(measured.peak_device_bytes)}"


def left_texts(choice: Choice) -> tuple[str, ...]:
    """What the full run ran by before, and how that ended: one text for each strategy that it has left."""
    return tuple(f"{one.strategy} until {one.why}" for one in choice.step_downs)


def _how(chosen: Chosen) -> str:
    if chosen.is_remembered:
        return "remembered from the run folder"
    counts = [(chosen.probe_count, "probe"), (chosen.rehearsal_count, "rehearsal")]
    texts = [f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts if count or word == "probe"]
    return f"decided in {brief_seconds(chosen.decided_s)}, {', '.join(texts)}"


def gives_up_text(strategy: Strategy) -> str:
    """What a training with it has not that the plain one has: `adalomo: factored second moments ...`; else nothing."""
    values = [value for _, value in strategy.rung.changed if value.gives_up]
    return "; ".join(f"{value.word}: {value.gives_up}" for value in values)


def beside_label(choice: Choice) -> str:
    return "full" if choice.strategy.rung.change is Change.ADAPTERS else "plain"


def beside_text(choice: Choice, pins: Pins) -> str:
    """What changes less of the training than the choice, after the words that take it: `--method full: zero3+gc mb4 ·
    9,100 tokens/s · 53.0 GB`; empty when nothing does, or when all that it changes was pinned."""
    changed, plain = choice.strategy.rung.changed, choice.plain
    if plain is not None:
        words = flags_text(choice.strategy.rung, plain.strategy.rung)
        return f"{words}: {plain.strategy} · {_beside_figures(plain)}"
    if all(pins.settles(knob) for knob, _ in changed):
        return ""
    return f"no rung {plainer_text(choice.strategy.rung)} fits of those that were probed"


def plainer_text(rung: Rung) -> str:
    """What the rungs that change less of the training than `rung` are: `with all parameters`."""
    return "with all parameters" if rung.change is Change.ADAPTERS else "that gives nothing up"


def flags_text(chosen: Rung, plain: Rung) -> str:
    """The flags that pin what the plain rung has of the knobs that change a training: `--method full`."""
    mine, other = chosen.by_name, plain.by_name
    turned = [knob for knob, _ in chosen.values() if knob.changes_training and mine[knob.name] != other[knob.name]]
    return " ".join(f"{knob.flag.name} {knob.of(other[knob.name]).word}" for knob in turned if knob.flag is not None)


def _beside_figures(plain: Beside) -> str:
    measured, expected = plain.measured, plain.expected
    if measured is not None:
        return f"{measured.tokens_per_s:,.0f} tokens/s · {format_bytes(measured.peak_device_bytes)}"
    if expected is None:
        return "not measured"
    speed, low, high = (rough_speed(one) for one in (expected.tokens_per_s, expected.low, expected.high))
    return f"~{speed} tokens/s (predicted, {low} to {high})"


_LABEL_COLUMNS = 10


def give_up_lines(view: View, action: GiveUp, *, width: int = WIDTH) -> list[Line]:
    lines: list[Line] = [((row, Style.BAD),) for row in wrap(_headline(view, action), width)]
    lines += labelled("why", action.why, width=width, columns=_LABEL_COLUMNS) if action.why else []
    if action.closest is not None:
        lines += labelled("closest", _closest(view, action), width=width, columns=_LABEL_COLUMNS)
    for label, text in zip(["would fit"] + [""] * len(action.would_fit), action.would_fit, strict=False):
        lines += labelled(label, text, width=width, columns=_LABEL_COLUMNS)
    return lines + resort_lines(action.resorts, width=width)


def resort_lines(resorts: Sequence[Resort], *, width: int = WIDTH) -> list[Line]:
    """The last resorts, each with the words that take it, its memory and speed, and what it gives up."""
    labels = ["resorts", *[""] * len(resorts)]
    longest = max((len(one.flag) for one in resorts), default=0)
    lines = []
    for label, one in zip(labels, resorts, strict=False):
        text = f"{one.flag.ljust(longest)} {_resort_figures(one)}"
        lines += labelled(label, text, width=width, columns=_LABEL_COLUMNS)
        lines += labelled("", f"  {one.gives_up}", width=width, columns=_LABEL_COLUMNS, style=Style.QUIET)
    return lines


def _resort_figures(one: Resort) -> str:
    speed = one.estimate.speed
    parts = [
        f"~{rough_bytes(one.estimate.memory.peak_bytes)}",
        *([f"~{rough_speed(speed.tokens_per_s)} tokens/s"] if speed.is_absolute else []),
    ]
    return f"({one.strategy}: {', '.join(parts)})"


def _headline(view: View, action: GiveUp) -> str:
    what = [model_name(view.shape) if view.shape is not None else "this model"]
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

"""The training as it goes on, and what it came to."""

from __future__ import annotations

from pathlib import Path

from autofit.domain.energy import Energy
from autofit.domain.event import ModelLoading, TrainingEnded, TrainingProgress, TrainingStarted
from autofit.domain.metric import Metric, MetricCourse
from autofit.domain.outcome import Measured
from autofit.domain.shell import path_word
from autofit.domain.timeline import Timeline
from autofit.domain.units import brief_seconds, format_bytes, format_seconds

from .line import WIDTH, Line, Style, command_lines, labelled

_LABEL = "training "
_BAR_COLUMNS = (8, 40)


def started_text(event: TrainingStarted) -> str:
    """What has started: `zero1+lora mb4, from the beginning · log runs/x/logs/training.log`."""
    begin = "from the beginning" if event.resumed_from is None else f"going on from {event.resumed_from}"
    return f"{event.strategy}, {begin} · log {event.log_path}"


def starting_lines(elapsed_s: float, loading: ModelLoading | None = None) -> list[Line]:
    """The lines until the first step is reported; `loading` is the last that was heard of the model."""
    doing = "loading the model and the data" if loading is None else loading_text(loading)
    clock = f"{int(elapsed_s) // 60}:{int(elapsed_s) % 60:02d}"
    return labelled(_LABEL.strip(), f"{doing} {clock}", style=Style.QUIET)


def loading_text(loading: ModelLoading) -> str:
    return f"loading the model, {loading.loaded_count:,} of {loading.weight_count:,} weights"


def progress_lines(progress: TrainingProgress, *, width: int = WIDTH) -> list[Line]:
    """A bar with steps, loss and speed; memory, the last save and the time left under it."""
    figures = "  ".join([_steps(progress), *_loss_and_speed(progress)])
    first = bar_line(_LABEL, progress.step / max(progress.step_count, 1), figures, width=width)
    below = " · ".join(_below(progress))
    return [first, ((" " * len(_LABEL) + below, Style.QUIET),)]


def bar_line(label: str, share: float, figures: str, *, width: int) -> Line:
    """A line with a bar of which `share` is done, as long as the figures behind it allow."""
    fewest, most = _BAR_COLUMNS
    columns = max(min(width - len(label) - len(figures) - 1, most), fewest)
    done = _bar(share, columns)
    return (
        (label, Style.LABEL),
        (done, Style.GOOD),
        ("━" * (columns - len(done)), Style.QUIET),
        (f" {figures}", Style.PLAIN),
    )


def progress_text(progress: TrainingProgress) -> str:
    """The progress on one line."""
    return " · ".join([_steps(progress), *_loss_and_speed(progress), *_below(progress)])


def _steps(progress: TrainingProgress) -> str:
    return f"{progress.step:,}/{progress.step_count:,}"


def _loss_and_speed(progress: TrainingProgress) -> list[str]:
    loss = [] if progress.loss is None else [f"loss {progress.loss:.3f}"]
    speed = [] if progress.tokens_per_s is None else [f"{progress.tokens_per_s:,.0f} tok/s"]
    return [*loss, *_metrics(progress.metrics), *speed]


def _metrics(metrics: tuple[Metric, ...]) -> list[str]:
    return [f"{metric.text} {metric.value:.3f}" for metric in metrics if metric.value is not None]


def _below(progress: TrainingProgress) -> list[str]:
    parts = []
    if progress.trouble is not None:
        parts.append(progress.trouble)
    parts += _skipped(progress.skipped_steps)
    if progress.peak_device_bytes is not None:
        parts.append(f"{format_bytes(progress.peak_device_bytes)} peak")
    if progress.eval_loss is not None:
        parts.append(f"eval loss {progress.eval_loss:.3f}")
    if progress.saved_step is not None:
        parts.append(f"saved step {progress.saved_step:,}")
    if progress.left_s is not None:
        parts.append(f"{format_seconds(progress.left_s)} left")
    return parts


def _skipped(count: int) -> list[str]:
    return [f"{count:,} step{'s' if count > 1 else ''} skipped"] if count else []


def _bar(share: float, columns: int) -> str:
    """The part that is done, in half columns."""
    halves = int(min(max(share, 0.0), 1.0) * columns * 2)
    return "━" * (halves // 2) + "╸" * (halves % 2)


def ended_lines(result: TrainingEnded, probed: Measured | None = None, *, width: int = WIDTH) -> list[Line]:
    """What was trained beside what its probe had said, where it lies, and the next command."""
    lines = labelled("trained", ended_text(result), width=width, style=Style.GOOD)
    if probed is not None:
        said = f"{probed.tokens_per_s:,.0f} tok/s · {format_bytes(probed.peak_device_bytes)}"
        lines += labelled("", f"its probe had said {said}", width=width)
    if result.energy is not None:
        lines += labelled("energy", energy_text(result.energy), width=width)
    if result.timeline is not None and (times := timeline_text(result.timeline)):
        lines += labelled("time", times, width=width)
    lines += labelled("model", result.model_path, width=width)
    lines += labelled("merged", result.merged_path, width=width) if result.merged_path else []
    return lines + command_lines(("autofit", "show", path_word(Path(result.model_path).parent)), width=width)


def energy_text(energy: Energy) -> str:
    """What a token took, of the devices and of the hosts."""
    whose = "whole devices" if energy.is_whole_device else "devices"
    return (
        f"{_joules(energy.device_j_per_token)} a token by the {whose} · {_joules(energy.host_j_per_token)} by the hosts"
    )


def _joules(joules: float | None) -> str:
    return "not measurable here" if joules is None else f"{joules:.3g} J"


def timeline_text(timeline: Timeline) -> str:
    """Where the time went, each mark after the one before."""
    return marks_text(
        ("choice after", timeline.chosen_s),
        ("first step after", timeline.first_step_s),
        ("last step after", timeline.last_step_s),
        ("model saved after", timeline.saved_s),
    )


def marks_text(*marks: tuple[str, float | None]) -> str:
    """Marks with the seconds at which they were passed, None for what was not; each after the one before."""
    before_s = 0.0
    parts: list[str] = []
    for what, at_s in marks:
        if at_s is not None:
            parts.append(f"{what} {brief_seconds(at_s - before_s)}{' more' if parts else ''}")
            before_s = at_s
    return " · ".join([*parts, f"{brief_seconds(before_s)} in all"])


def _courses(courses: tuple[MetricCourse, ...]) -> list[str]:
    return [
        f"{course.text} {course.first:.3f} → {course.last:.3f}"
        for course in courses
        if course.first is not None and course.last is not None
    ]


def ended_text(result: TrainingEnded) -> str:
    parts = [f"{result.step_count:,} steps in {format_seconds(result.total_s)}"]
    if result.first_loss is not None and result.last_loss is not None:
        parts.append(f"loss {result.first_loss:.3f} → {result.last_loss:.3f}")
    parts += _courses(result.metrics)
    if result.eval_loss is not None:
        parts.append(f"eval loss {result.eval_loss:.3f}")
    parts += _metrics(tuple(Metric(f"eval {course.text}", course.evaluated) for course in result.metrics))
    parts += [] if result.trouble is None else [result.trouble]
    parts += _skipped(result.skipped_steps)
    if result.tokens_per_s is not None:
        parts.append(f"{result.tokens_per_s:,.0f} tok/s")
    return " · ".join([*parts, format_bytes(result.peak_device_bytes)])

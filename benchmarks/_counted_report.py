"""What is said of counted trainings: a line and an entry for each, and how far the predictions err by group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

from _counted_cases import MODELS
from _counted_ledger import Held
from _counted_rows import CountedRow
from _error_figures import figures, percent

from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.planning.memory.load import Load

Group = Callable[[CountedRow], bool]


def counted_summary(rows: Sequence[CountedRow]) -> dict[str, object]:
    return {
        "device": figures([row.device_error for row in rows]),
        "host": _host_figures(rows),
        "beyond_interval": [str(row.case) for row in rows if row.is_above],
        "below_interval": [str(row.case) for row in rows if not row.is_inside and not row.is_above],
        "groups": dict(_group_figures(rows)),
    }


def _group_figures(rows: Sequence[CountedRow]) -> Iterator[tuple[str, dict[str, object]]]:
    for name, belongs in _groups().items():
        group = [row for row in rows if belongs(row)]
        if group:
            yield name, {"device": figures([row.device_error for row in group]), "host": _host_figures(group)}


def _groups() -> dict[str, Group]:
    return {
        **{model: lambda row, model=model: row.case.model == model for model in MODELS},
        **{f"ZeRO-{stage}": lambda row, stage=stage: row.case.zero_stage == stage for stage in (1, 2, 3)},
        "no offload": lambda row: row.case.offload is Offload.NONE,
        "offload of the optimizer": lambda row: row.case.offload is Offload.OPTIMIZER,
        "offload of a part of it": lambda row: row.case.offload is Offload.PARTIAL,
        "offload of all": lambda row: row.case.offload is Offload.ALL,
        "all parameters": lambda row: row.case.method is Method.FULL,
        "LoRA": lambda row: row.case.method is Method.LORA,
        "LOMO, AdaLomo": lambda row: row.case.optimizer.is_fused,
        "accumulation": lambda row: row.case.gradient_accumulation > 1,
        "no gradient checkpointing": lambda row: not row.case.gradient_checkpointing.recomputes,
        "1 rank": lambda row: row.setting.rank_count == 1,
        **{f"{count} ranks": lambda row, count=count: row.setting.rank_count == count for count in (2, 4, 8, 64)},
    }


def _host_figures(rows: Sequence[CountedRow]) -> dict[str, object] | None:
    errors = [row.host_error for row in rows if row.host_error is not None]
    return figures(errors) if errors else None


def counted_entry(row: CountedRow) -> dict[str, object]:
    return {
        **{name: getattr(value, "value", value) for name, value in asdict(row.case).items()},
        "device": {
            "predicted_bytes": row.predicted_device_bytes,
            "counted_bytes": row.device_bytes,
            "error_percent": percent(row.device_error),
            "is_inside": row.is_inside,
            "phases": _phases(row),
        },
        "host": {
            "predicted_bytes": row.predicted_host_bytes,
            "counted_bytes": row.host_bytes,
            "error_percent": None if row.host_error is None else percent(row.host_error),
            "phases": {phase.value: n_bytes for phase, n_bytes in row.host_by_phase().items()},
        },
        "resident": {f"rank {rank}": asdict(truth.resident) for rank, truth in row.truths.items()},
    }


def _phases(row: CountedRow) -> dict[str, object]:
    """By phase, what was counted, and the parts of what was predicted where a phase of the kind is."""
    phases: dict[str, object] = {}
    for phase, counted_bytes in row.counted_by_phase().items():
        load = row.loads.get(phase)
        parts = {} if load is None else {name: value for name, value in asdict(load).items() if name != "phase"}
        predicted_bytes = None if load is None else load.total_bytes
        phases[phase.value] = {"counted_bytes": counted_bytes, "predicted_bytes": predicted_bytes, "parts": parts}
    return phases


def counted_lines(row: CountedRow) -> Iterator[str]:
    """The case with both errors, and a line for each phase of it."""
    told = [_compared(row.predicted_device_bytes, row.device_bytes), "in" if row.is_inside else "OUT"]
    if row.host_error is not None:
        told += ["host", _compared(row.predicted_host_bytes, row.host_bytes)]
    yield f"{row.case!s:72} {' '.join(told)}"
    host_bytes = row.host_by_phase()
    for phase, counted_bytes in row.counted_by_phase().items():
        counted = f"counted {counted_bytes / 1e9:9.3f} host {host_bytes[phase] / 1e9:9.3f}"
        yield f"    {phase.value:12} {counted} predicted {_parts(row.loads.get(phase))}"
    yield from _owner_lines(row)


def _compared(predicted_bytes: int, counted_bytes: int) -> str:
    error = 100 * (predicted_bytes / counted_bytes - 1)
    return f"{predicted_bytes / 1e9:8.3f} {counted_bytes / 1e9:8.3f} GB {error:+6.2f} %"


def _parts(load: Load | None) -> str:
    if load is None:
        return "nothing of its own"
    parts = {name.removesuffix("_bytes"): value for name, value in asdict(load).items() if name != "phase"}
    words = " + ".join(f"{value / 1e9:.3f} {name}" for name, value in parts.items() if value)
    return f"{load.total_bytes / 1e9:9.3f} = {words}"


def _owner_lines(row: CountedRow) -> Iterator[str]:
    """For each rank and stretch, who held the most when the device's peak came, and the host's."""
    for rank, truth in row.truths.items():
        for stretch in truth.stretches:
            if stretch.at_device_peak or stretch.at_host_peak:
                adding = " (adding)" if stretch.is_adding else ""
                yield f"    rank {rank}, {stretch.phase.value}{adding}: at its peak, then at its end"
                yield f"      {_held_words(stretch.peak)}\n      {_held_words(stretch.end)}"
            for place, owners in (("device", stretch.at_device_peak), ("host", stretch.at_host_peak)):
                yield from (f"      {place} {n_bytes / 1e9:9.3f} {name}" for name, n_bytes in owners)


def _held_words(held: Held) -> str:
    return ", ".join(f"{name.removesuffix('_bytes')} {value / 1e9:.3f}" for name, value in asdict(held).items())

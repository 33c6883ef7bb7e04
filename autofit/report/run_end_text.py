"""What is said when a full run did not come to its end."""

from __future__ import annotations

from pathlib import Path

from autofit.domain.divergence import ChangedNothing, Divergence, EndedNotFinite, Stopped
from autofit.domain.ending import GO_ON, LARGER_SHARED_MEMORY, PLACES, broken_text, remedy
from autofit.domain.outcome import (
    Crashed,
    DeviceLost,
    DiskFull,
    Diverged,
    FailedStart,
    Killed,
    NodeLost,
    NotFinite,
    OutOfMemory,
    Phase,
    Place,
    SignalCrash,
    TimedOut,
    Unsupported,
    UserFault,
)
from autofit.domain.run_end import MergeFailed, NoModel, RunFailure
from autofit.domain.strategy import Strategy
from autofit.domain.units import brief_seconds, format_bytes

_BETWEEN_STEPS = (Phase.EVALUATE, Phase.SAVE)
_LOWER = "A lower --learning-rate with another --output-dir may hold, --on-divergence warn goes on all the same."
_LOOK = "It began so: look at the model's weights, and at its --dtype."
_ROOM = {
    Place.DEVICE: "a smaller --micro-batch leaves more room, with another --output-dir",
    Place.HOST: f"with more memory for this machine's container or job {GO_ON}, and --offload none needs less of it, "
    "with another --output-dir",
    Place.SHARED: f"{LARGER_SHARED_MEMORY}, then {GO_ON}",
}


def run_failure_text(end: RunFailure, log_path: Path) -> str:
    """What happened, where, and what to do; `log_path` is the log of what failed."""
    match end:
        case OutOfMemory():
            return f"{lack_text(end, log_path)}; {_ROOM[end.place]}"
        case Crashed(exit_code=int(code)):
            return f"the training ended with exit code {code} and left no report; its log is {log_path}, and {GO_ON}"
        case TimedOut():
            silence, place = brief_seconds(end.after_s), PLACES[end.phase]
            hung = f"no rank has moved for {silence}: rank {end.rank} stands still in {place}"
            return f"{hung}, and the training was ended\nthe stacks of all ranks are in {log_path}; {GO_ON}"
        case Unsupported() | UserFault() | Crashed():
            return f"{_failed(end.phase, end.rank)}: {end.why}\nits log is {log_path}; {remedy(end)}"
        case Killed() | SignalCrash() | DiskFull() | DeviceLost() | NodeLost() | NotFinite():
            return f"the training failed: {broken_text(end)}\nits log is {log_path}; {remedy(end)}"
        case Diverged():
            return f"{_divergence_text(end.divergence)}\nits log is {log_path}"
        case NoModel():
            return f"the training ended and left no model in {end.model_path}; its log is {log_path}"
        case MergeFailed():
            return f"merging failed, the adapter in {end.adapter_path} is whole; the log is {log_path}"


def lack_text(end: OutOfMemory, log_path: Path) -> str:
    """Which memory was short, and where, without what to do."""
    return f"{_out_of_memory(end)}\nits log is {log_path}"


def unprobed_failure_text(strategy: Strategy, end: FailedStart) -> str:
    """What happened to a training that was started without a probe, and is searched now."""
    if isinstance(end, OutOfMemory):
        what = f"{_out_of_memory(end)}, although {strategy} was expected to fit"
    else:
        what = f"the training failed with {strategy}, which no probe had tried: {broken_text(end)}"
    return f"{what}; nothing is lost, and it is searched now"


def step_down_text(end: OutOfMemory, step: int | None) -> str:
    """What happened to a training that goes on by less: `step 412 ran out of device memory on rank 1`. `step` is the
    last that was done, None before any could be."""
    whose = "" if end.rank is None else f" on rank {end.rank}"
    what = f"ran out of {end.place.value} memory{whose}"
    if step is None:
        return f"the start {what}"
    if end.phase in _BETWEEN_STEPS:
        return f"{end.phase.value} after step {step:,} {what}"
    return f"step {step + 1:,} {what}"


def _out_of_memory(end: OutOfMemory) -> str:
    asked = f" (asked for {format_bytes(end.requested_bytes)})" if end.requested_bytes else ""
    return f"{_failed(end.phase, end.rank)}: out of {end.place.value} memory{asked}"


def _failed(phase: Phase | None, rank: int | None) -> str:
    where = "" if phase is None else f" in {phase.value}"
    return f"the training failed{where}" + ("" if rank is None else f" on rank {rank}")


def _divergence_text(divergence: Divergence) -> str:
    match divergence:
        case Stopped():
            what = f"the training has diverged: {divergence.symptom.value} since step {divergence.first_step:,}"
        case EndedNotFinite():
            name = "evaluation loss" if divergence.is_evaluation else "loss"
            what = f"the training has ended, and its {name} is not finite"
        case ChangedNothing():
            return f"the training has changed nothing: {_why_unmoved(divergence)}"
    good = divergence.good_checkpoint
    kept = "there is no checkpoint from before" if good is None else f"the last good checkpoint is {good}"
    return f"{what}; {kept}. {_LOOK if divergence.first_step == 1 else _LOWER}"


def _why_unmoved(divergence: ChangedNothing) -> str:
    if divergence.was_skipped:
        return "DeepSpeed skipped every step, for the gradients were not finite; look at the model's weights"
    return "the learning rate or the gradient was 0 in every step; look at --learning-rate and the warm-up"

"""How an end that is not about memory is told in one phrase, alike on every screen and in every reason."""

from __future__ import annotations

import signal

from .outcome import (
    Broken,
    Crashed,
    DeviceLost,
    DiskFull,
    Killed,
    NodeLost,
    NotFinite,
    Phase,
    SignalCrash,
    TimedOut,
    Unsupported,
    UserFault,
)
from .units import format_seconds

PLACES = {
    Phase.START: "the start",
    Phase.BUILD: "the build",
    Phase.INITIALIZE: "set-up",
    Phase.GENERATE: "the generation",
    Phase.REWARD: "the rewards",
    Phase.FORWARD: "forward",
    Phase.REFERENCE: "the reference's forward",
    Phase.BACKWARD: "backward",
    Phase.STEP: "the optimizer step",
    Phase.EVALUATE: "the evaluation",
    Phase.SAVE: "the save",
    Phase.SCRIPT: "the script",
}

OWN_SIGNALS = {
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSEGV,
    signal.SIGSYS,
    signal.SIGTRAP,
}
"""A process sends itself these by what it does; every other signal somebody sends (signal(7))."""

GO_ON = "the same command goes on from the last checkpoint"
LARGER_SHARED_MEMORY = "make /dev/shm larger (docker run --shm-size 16g)"

CALLED: dict[type[Broken], str] = {
    Unsupported: "not supported",
    TimedOut: "timed out",
    Killed: "killed",
    SignalCrash: "crashed",
    DiskFull: "disk full",
    DeviceLost: "device lost",
    NodeLost: "node lost",
    NotFinite: "not finite",
    UserFault: "its own error",
    Crashed: "crashed",
}
"""What an end is called where there is room for a word or two."""


def broken_text(end: Broken) -> str:
    """What happened, where and on which rank; without what to do."""
    match end:
        case Unsupported():
            return f"not supported: {end.why}"
        case TimedOut(was_silent=False):
            return f"still in {PLACES[end.phase]} after {format_seconds(end.after_s)}{_on(end.host)}"
        case TimedOut():
            return f"no sign of life in {PLACES[end.phase]} for {format_seconds(end.after_s)}{_on(end.host)}"
        case Killed() | SignalCrash():
            return f"{_whose(end)} {death_text(end.signal)} in {PLACES[end.phase]}"
        case DiskFull():
            return f"the disk is full in {_at(end)}: {end.why}"
        case DeviceLost():
            xid = "" if end.xid is None else f" (Xid {end.xid})"
            return f"the device was lost in {_at(end)}: {end.why}{xid}"
        case NodeLost():
            return f"node {end.node} was lost in {PLACES[end.phase]}: {end.why}"
        case NotFinite():
            return f"not finite in {_at(end)}: {end.why}"
        case UserFault():
            return f"in {_at(end)}: {end.why}"
        case Crashed():
            return f"crashed in {_at(end)}: {end.why}"


def remedy(end: Broken) -> str:
    """What to do after it, for the training that ended so."""
    match end:
        case Killed():
            return f"the signal came from outside: a person, a scheduler or a limit; {GO_ON}"
        case SignalCrash(signal=signal.SIGBUS):
            return f"most often it is short of shared memory: {LARGER_SHARED_MEMORY}, then {GO_ON}"
        case SignalCrash():
            return f"{GO_ON}; where it crashes again, the log may name the library"
        case DiskFull():
            return "once there is room, the same command goes on"
        case DeviceLost():
            return f"see what nvidia-smi and the kernel's log (dmesg) say of it; once it is reset, {GO_ON}"
        case NodeLost():
            return f"see to that {end.node} answers, then {GO_ON}"
        case NotFinite():
            return "look at the model's weights, and at its --dtype"
        case UserFault():
            return f"once that is mended, {GO_ON}"
        case Unsupported() | TimedOut() | Crashed():
            return GO_ON


def death_text(number: int) -> str:
    """What a signal did to a process, to follow the name of that."""
    return f"{'crashed' if number in OWN_SIGNALS else 'was killed'} by {signal_name(number)}"


def signal_name(number: int) -> str:
    """The name of a signal, such as `SIGKILL`; a plain number for those that have none, real-time signals most of
    all."""
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"


def _at(end: DiskFull | DeviceLost | NotFinite | UserFault | Crashed) -> str:
    return PLACES[end.phase] + ("" if end.rank is None else f" on rank {end.rank}")


def _whose(end: Killed | SignalCrash) -> str:
    return ("the job" if end.rank is None else f"rank {end.rank}") + _on(end.host)


def _on(host: str | None) -> str:
    return "" if host is None else f" on host {host}"

"""What a probe or a full run came to. A value, never an exception."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Union, get_args

from .divergence import Divergence
from .energy import Energy


class Phase(str, Enum):
    """Where in its life a rank is; reported with every failure."""

    START = "start"
    BUILD = "build"
    INITIALIZE = "initialize"  # deepspeed.initialize
    GENERATE = "generate"  # answers to be rewarded, by the model that trains
    REWARD = "reward"  # of the answers, by functions and models
    FORWARD = "forward"
    REFERENCE = "reference"  # the forward pass of the frozen model, or of the one without its adapter
    BACKWARD = "backward"
    STEP = "step"
    EVALUATE = "evaluate"
    SAVE = "save"
    SCRIPT = "script"  # somewhere in a script that runs unwatched


class Place(str, Enum):
    DEVICE = "device"
    HOST = "host"  # or its cgroup, pinned memory among it
    SHARED = "shared"  # /dev/shm, which containers make small


@dataclass(frozen=True)
class Measured:
    """The strategy fits. Memory is the largest over the ranks; times are the slowest rank's, after warm-up."""

    peak_device_bytes: int
    peak_host_bytes: int  # all ranks of the node together
    tokens_per_s: float  # real (not padding) tokens, all ranks, with the request's accumulation
    step_s: float  # one optimizer step of the global batch
    micro_step_s: float  # one micro-batch, forward and backward
    update_s: float  # what the optimizer step adds to the last micro-batch
    base_bytes: int = 0  # of it what lay beside the tensors: the runtime; on a CPU, before the model was built
    alloc_retries: int = 0  # the CUDA allocator's; a rung that thrashes does not fit
    start_s: float = 0.0  # until every rank was running
    total_s: float = 0.0  # the whole probe
    peak_allocated_bytes: int | None = None  # of it what tensors held; None where no allocator counts (a CPU)
    speed_error: float | None = (
        None  # relative standard error of tokens_per_s by its steps; None where one was measured
    )
    step_count: int | None = None  # measured steps; None in what was written before they were counted
    energy: Energy | None = None  # of the measured steps; None where nothing counts it
    is_outpaced: bool = False  # slower beyond doubt after its first one, and ended: nothing evaluated, nothing saved


@dataclass(frozen=True)
class OutOfMemory:
    rank: int | None  # None where nobody saw whose it was; of a probe it is known
    phase: Phase
    place: Place
    message: str  # the allocator's own words, one line
    requested_bytes: int | None = None
    peak_bytes: int | None = None  # what the rank held at most before it failed
    total_s: float = 0.0


@dataclass(frozen=True)
class Unsupported:
    why: str
    total_s: float = 0.0
    rank: int | None = None  # with the phase None in what was written before they were kept
    phase: Phase | None = None


@dataclass(frozen=True)
class TimedOut:
    """There was no heartbeat within the deadline, or no end within the probe's limit. It does not mean that the rung
    does not fit."""

    rank: int
    phase: Phase
    after_s: float
    total_s: float = 0.0
    was_silent: bool = True  # False: its ranks went on, and the probe as a whole took too long
    host: str | None = None  # the rank's, where there are several


@dataclass(frozen=True)
class Killed:
    """A signal that none of us has sent ended a rank, and the kernel's want of memory was not why."""

    rank: int | None  # None where nobody saw whose it was
    phase: Phase
    signal: int
    log: str | None = None  # path of its log
    total_s: float = 0.0
    host: str | None = None  # the rank's, where there are several


@dataclass(frozen=True)
class SignalCrash:
    """A rank died of what its own code did: SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT and their like."""

    rank: int | None  # None where nobody saw whose it was
    phase: Phase
    signal: int
    log: str | None = None
    total_s: float = 0.0
    host: str | None = None


@dataclass(frozen=True)
class DiskFull:
    """There was no space, or no quota, left for what a rank wrote."""

    rank: int | None
    phase: Phase
    why: str  # names the place, where that is known
    total_s: float = 0.0


@dataclass(frozen=True)
class DeviceLost:
    """A device does not answer any more, or its memory cannot be trusted."""

    rank: int | None
    phase: Phase
    why: str
    total_s: float = 0.0
    xid: int | None = None  # NVIDIA's number of the error; None where nobody could read it


@dataclass(frozen=True)
class NodeLost:
    """A node of the job does not answer any more."""

    node: str
    phase: Phase
    why: str
    total_s: float = 0.0


@dataclass(frozen=True)
class NotFinite:
    """A probe's loss or gradients were no numbers, so that its steps measured nothing."""

    rank: int | None
    phase: Phase
    why: str
    total_s: float = 0.0


@dataclass(frozen=True)
class UserFault:
    """What is the user's own said no: the data, a chat template, a reward function, a script. `why` is shown as it
    is."""

    rank: int | None
    phase: Phase
    why: str
    total_s: float = 0.0


@dataclass(frozen=True)
class Crashed:
    """A rank raised what none of the others is: a bug of ours, or of a library that we use."""

    rank: int | None  # None where nobody saw whose it was; of a probe it is known
    phase: Phase
    why: str
    log: str | None = None  # path of its log
    total_s: float = 0.0
    exit_code: int | None = None  # None where a rank has left its own words
    is_ours: bool = False  # our own code raised it


@dataclass(frozen=True)
class Diverged:
    """A full run was ended because what it learned was no model."""

    rank: int
    phase: Phase
    divergence: Divergence
    total_s: float = 0.0


Broken = Union[
    Unsupported, TimedOut, Killed, SignalCrash, DiskFull, DeviceLost, NodeLost, NotFinite, UserFault, Crashed
]
"""How a rank ends for a reason that is not memory: it says nothing of what fits. Nor does a full /dev/shm."""

BROKEN: tuple[type[Broken], ...] = get_args(Broken)

StrategyFault = Union[Unsupported, TimedOut, SignalCrash, Crashed]
"""How a rank may end for a reason of its strategy's alone: with another it may train."""

STRATEGY_FAULTS: tuple[type[StrategyFault], ...] = get_args(StrategyFault)

FailedStart = Union[OutOfMemory, StrategyFault]
"""How a training ends that shows at its start what a probe would have shown."""

Failure = Union[OutOfMemory, Diverged, Broken]
"""How ranks end that do not come to their end, in a probe, in the full run and in a job that was handed over."""

Outcome = Union[Measured, OutOfMemory, Broken]


def is_lasting(outcome: Outcome) -> bool:
    """Whether it still says something at the next start: what was measured, and which memory did not suffice. Whatever
    else kept a probe from its end may be mended since, and is tried again."""
    if isinstance(outcome, OutOfMemory):
        return outcome.place is not Place.SHARED
    return isinstance(outcome, Measured)

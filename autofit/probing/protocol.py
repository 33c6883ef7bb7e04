"""What the CLI and the agent say to each other, and what a rank leaves behind: values in JSON lines, never pickle."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, Union

from autofit.domain.codec import decode, decode_union, to_json
from autofit.domain.divergence import Divergence
from autofit.domain.hardware import DeviceKind
from autofit.domain.metric import MetricCourse
from autofit.domain.model import ModelFacts
from autofit.domain.outcome import Phase, Place
from autofit.domain.request import Request
from autofit.domain.script import RuntimePatches, Script, ScriptFacts
from autofit.domain.strategy import Strategy
from autofit.domain.trace import MicroStep, Trace
from autofit.domain.workload import BatchShape, DataProfile
from autofit.planning.probe_steps import MEASURE_S
from autofit.process.build_locks.build_wait import BuildWait


@dataclass(frozen=True)
class Job:
    """What every rank of a training needs to know, in a probe and in the full run alike."""

    request: Request
    strategy: Strategy
    deepspeed_config: str | None  # JSON text; None: no engine of DeepSpeed's, but torch's DDP
    kind: DeviceKind
    rank_count: int
    devices: tuple[str, ...] = ()  # what CUDA_VISIBLE_DEVICES must name, by the PCI bus; empty on a CPU
    memory_limit_bytes: int | None = None  # per rank
    is_rehearsal: bool = False  # rank 0 alone, its neighbours played by torch's fake process group
    device_memory_bytes: int | None = None  # that a CPU rank may hold; None: its heap gives back what is freed
    probed_peak_bytes: int | None = None  # what the probe of a full run held; None where there was none

    @property
    def process_count(self) -> int:
        """How many of its ranks really run."""
        return 1 if self.is_rehearsal else self.rank_count


@dataclass(frozen=True)
class ProbeSpec:
    job: Job
    worst: tuple[BatchShape, ...]  # the memory steps run on these in turn, and stay with the last
    typical: tuple[BatchShape, ...]  # the measured steps take one after the other
    scratch_path: str  # a folder of this probe alone; reports and saves go there
    log_path: str
    heartbeat_timeout_s: float
    has_save: bool  # saves once a rung: its memory does not depend on the micro-batch
    measure_s: float = MEASURE_S
    step_silence_s: float | None = None  # the silence that ends it within a step, where that is less
    time_limit_s: float | None = None  # ends the probe, whatever signs of life its ranks give; None: no limit
    least_tokens_per_s: float | None = None  # ends it after the first measured step if that is slower; None: never


@dataclass(frozen=True)
class Share:
    """One node's part of a probe of a script: its ranks follow each other. The ranks meet at the master's address."""

    node_index: int
    node_count: int
    first_rank: int
    rank_count: int  # on this node
    devices: tuple[str, ...]  # what CUDA_VISIBLE_DEVICES names, as DeepSpeed's launcher sets it
    master_address: str
    master_port: int


@dataclass(frozen=True)
class ScriptJob:
    """What every rank of a probe of the user's own script needs to know.

    `strategy` is None for the script as it is.
    """

    script: Script
    strategy: Strategy | None
    turns: RuntimePatches
    kind: DeviceKind
    rank_count: int
    memory_limit_bytes: int | None = None  # per rank
    rows: int | None = None  # that its batches must turn out to have; None: whatever they have
    device_memory_bytes: int | None = None  # as in Job


@dataclass(frozen=True)
class ScriptSpec:
    """A probe of the user's own script."""

    job: ScriptJob
    shares: tuple[Share, ...]  # one a node
    scratch_path: str  # the same on every node: reports go there, and what the script would write as its output
    log_path: str
    heartbeat_timeout_s: float
    files: tuple[tuple[str, str], ...] = ()  # name and text: written into the scratch folder before the ranks start
    measured_steps: int | None = None  # None: as many as `measure_s` takes
    measure_s: float = MEASURE_S
    least_tokens_per_s: float | None = None  # as of a ProbeSpec


Spec = Union[ProbeSpec, ScriptSpec]


@dataclass(frozen=True)
class ScriptEntry:
    """What a rank of the full run does before it becomes the user's script: `ENTRY_MODULE`'s first argument."""

    turns: RuntimePatches
    kind: DeviceKind
    is_module: bool = False
    memory_limit_bytes: int | None = None  # per rank


ENTRY_MODULE = "autofit.worker.entry"  # python -m it [--local_rank=N] ENTRY SCRIPT [ARGUMENTS]

ONLY_TRACES = "only-traces"  # the agent's argument: it is asked for nothing else, and imports no more than that needs


# --- CLI to agent -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Survey:
    """Asks to load and tokenize the data as the trainer will, and to check the extra arguments; answered by Surveyed or
    SurveyRefused, after RowsMade where it takes long.

    It goes on while other things are asked. `foresees`: Foreseen comes first where there are many rows.
    """

    request: Request
    log_path: str
    most_processes: int = 1  # that make the rows
    foresees: bool = False


@dataclass(frozen=True)
class CheckInputs:
    """Asks to look at the first rows of the data and at the extra arguments; answered by InputsChecked, or Refused."""

    request: Request
    log_path: str


@dataclass(frozen=True)
class DescribeModel:
    """Asks what the class of the request's model says of it; answered by ModelDescribed or Undescribed, or Refused when
    it is none that can be trained."""

    request: Request
    log_path: str


@dataclass(frozen=True)
class RunProbe:
    """One probe of several, and what a forked rank of it is told.

    `number` is unique on this machine while the probe runs: it names the group's files in /dev/shm. `node_index` is
    whose share of a script's probe is meant. `store_path` is the file in which the ranks of autofit's own training
    meet; who runs them names it.
    """

    number: int
    spec: Spec
    node_index: int = 0
    store_path: str | None = None


@dataclass(frozen=True)
class RunProbes:
    """Asks to run probes side by side, each on its own devices; each is answered by a GroupEnded of its number when it
    ends."""

    probes: tuple[RunProbe, ...]


@dataclass(frozen=True)
class TraceModel:
    """Asks to trace each micro-step of the request's model; answered by Traced, after TraceProgress where it takes
    long, or Refused when there is no such model."""

    request: Request
    micro_steps: tuple[MicroStep, ...]
    log_path: str


@dataclass(frozen=True)
class EndProbe:
    """Asks to end a probe at once, for it has failed on another node; answered by its GroupEnded, unless that is on its
    way."""

    number: int


Command = Union[Survey, CheckInputs, DescribeModel, RunProbes, TraceModel, EndProbe]


# --- agent to CLI -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ready:
    """Everything is imported; `start_s` is what that took. What is in `temporary_path` is of no use after the
    agent."""

    start_s: float
    temporary_path: str | None = None


@dataclass(frozen=True)
class RowsMade:
    """How far a survey is with one of the looks that it takes at all rows."""

    done_rows: int
    row_count: int


@dataclass(frozen=True)
class Foreseen:
    """What a sample of the rows foretells of all of them."""

    profile: DataProfile


@dataclass(frozen=True)
class Surveyed:
    profile: DataProfile


@dataclass(frozen=True)
class InputsChecked:
    """Nothing is wrong as far as one looked."""


@dataclass(frozen=True)
class SurveyRefused:
    """Something of the data or the training's arguments must be changed; one sentence."""

    message: str


@dataclass(frozen=True)
class ModelDescribed:
    facts: ModelFacts


@dataclass(frozen=True)
class Undescribed:
    """The model's class cannot be looked at without memory; one sentence says why."""

    why: str


@dataclass(frozen=True)
class TraceFailure:
    """A micro-step that has no trace; one plain sentence says why."""

    of: MicroStep
    why: str
    is_unbuildable: bool = False  # the model cannot be built like this; else only the tracer cannot follow it


@dataclass(frozen=True)
class Traced:
    """Every micro-step that was asked for is in one of the two, in the order of the command."""

    traces: tuple[Trace, ...]
    failures: tuple[TraceFailure, ...] = ()


@dataclass(frozen=True)
class TraceProgress:
    """How many of the micro-steps that were asked for are done, with a trace or without; said while they take long."""

    done_count: int
    passed_s: float


@dataclass(frozen=True)
class Refused:
    """Something was found that the user must change; one sentence."""

    message: str


@dataclass(frozen=True)
class Heartbeat:
    number: int
    rank: int
    phase: Phase
    step: int


@dataclass(frozen=True)
class ScriptSeen:
    """What a script shows of itself, told by rank 0: once at `deepspeed.initialize`, and again with the first batch."""

    number: int
    facts: ScriptFacts


NO_ROOM_EXIT = 74
"""A rank leaves with this where there was no room for its report: EX_IOERR of sysexits.h, which no library leaves
with."""


class FailureKind(str, Enum):
    OUT_OF_MEMORY = "out_of_memory"
    UNSUPPORTED = "unsupported"
    DISK_FULL = "disk_full"
    DEVICE_LOST = "device_lost"
    NOT_FINITE = "not_finite"
    USER_FAULT = "user_fault"  # of the user's data, template, function or script
    CRASHED = "crashed"
    LOST_NEIGHBOUR = "lost_neighbour"  # the connection to another rank broke: that one knows why


@dataclass(frozen=True)
class Counted:
    """The joules that a counter counted; ranks that share one name it alike."""

    counter: str
    joules: float
    is_whole_device: bool = False  # what others have of the device is in it


@dataclass(frozen=True)
class RankEnergy:
    """One rank's window; None of what has no counter here, or one that is too slow for so short a window."""

    tokens: float  # real ones, of this rank
    device: Counted | None
    host: Counted | None


@dataclass(frozen=True)
class RankMeasured:
    """One rank's figures. Times are means over the measured steps, None for a kind that the steps do not have."""

    peak_device_bytes: int
    peak_host_bytes: int
    base_bytes: int
    alloc_retries: int
    first_s: float | None  # the first of several micro-batches: forward and backward, makes the gradients
    middle_s: float | None  # one that adds to them
    last_s: float | None  # the one that ends the step, with the optimizer's part
    tokens_per_micro_batch: float  # real tokens, all ranks
    peak_allocated_bytes: int | None = None  # what tensors held; None where no allocator counts
    speed_error: float | None = None  # relative standard error of the steps' mean; None where one was measured
    step_count: int | None = None  # measured steps
    is_outpaced: bool = False  # ended after the first of them, which was too slow; on every rank the same
    energy: RankEnergy | None = None  # of all that came after the memory steps


@dataclass(frozen=True)
class RankTrained:
    """One rank's figures of the full run; losses and speeds are rank 0's view of all ranks."""

    peak_device_bytes: int
    peak_host_bytes: int
    step_count: int
    first_loss: float | None
    last_loss: float | None
    tokens_per_s: float | None
    eval_loss: float | None = None  # of the model that is saved; None without evaluation data
    skipped_steps: int = 0  # whose gradients were not finite
    trouble: str | None = None  # what was wrong at its end, and since when
    energy: RankEnergy | None = None  # from the first step to the last, evaluations and checkpoints between included
    metrics: tuple[MetricCourse, ...] = ()  # of all ranks


@dataclass(frozen=True)
class RankFailed:
    kind: FailureKind
    phase: Phase
    place: Place
    message: str  # one line
    at_s: float  # time.time(), to find the first of several
    requested_bytes: int | None = None
    peak_bytes: int | None = None
    xid: int | None = None  # of a device that was lost
    is_ours: bool = False  # a crash within our own code


@dataclass(frozen=True)
class RankDiverged:
    """A rank of a full run was ended because what it learned was no model."""

    divergence: Divergence
    phase: Phase
    at_s: float  # time.time()


@dataclass(frozen=True)
class RankStopped:
    """A rank of a full run that was asked to end, and did so once all of them had saved."""

    step: int | None  # after which; None where it could not be saved, for want of space
    signal: int | None  # that it heard; None where only others did


RankReport = Union[RankMeasured, RankTrained, RankStopped, RankFailed, RankDiverged]


@dataclass(frozen=True)
class RankEnd:
    """How one rank ended. `exit_code` is negative for a signal; `was_killed` when the agent ended it itself."""

    rank: int
    exit_code: int | None
    was_killed: bool
    last_phase: Phase
    report: RankReport | None


@dataclass(frozen=True)
class GroupEnded:
    number: int
    ends: tuple[RankEnd, ...]
    start_s: float  # from the command to the last rank's first heartbeat
    total_s: float
    silent_rank: int | None = None  # sent no heartbeat within the deadline
    silent_s: float = 0.0
    time_limit_s: float | None = None  # it was ended since it had taken so long


@dataclass(frozen=True)
class AgentFailed:
    """The agent cannot go on; one sentence."""

    why: str
    is_bug: bool = True  # of ours; False: a signal ended one of its processes


SurveyNews = Union[RowsMade, Foreseen, Surveyed, SurveyRefused]
"""What comes of a survey at any time, whatever else was asked meanwhile."""

Message = Union[
    Ready, BuildWait, RowsMade, Foreseen, Surveyed, SurveyRefused, InputsChecked, ModelDescribed, Undescribed, Traced,
    TraceProgress, Refused, Heartbeat, ScriptSeen, GroupEnded, AgentFailed,
]  # fmt: skip


def to_line(value: Command | RunProbe | Message | RankReport) -> bytes:
    """The value as one JSON line."""
    return to_json(value, separators=(",", ":")).encode() + b"\n"


def read_command(line: bytes) -> Command:
    return _read(Command, line)  # type: ignore[no-any-return]


def read_probe(line: bytes) -> RunProbe:
    return decode(RunProbe, json.loads(line))


def read_message(line: bytes) -> Message:
    return _read(Message, line)  # type: ignore[no-any-return]


def read_report(text: bytes) -> RankReport:
    return _read(RankReport, text)  # type: ignore[no-any-return]


def encode_entry(entry: ScriptEntry) -> str:
    """Writes the entry as one word without a character that a shell knows."""
    return base64.urlsafe_b64encode(to_json(entry).encode()).decode()


def read_entry(word: str) -> ScriptEntry:
    return decode(ScriptEntry, json.loads(base64.urlsafe_b64decode(word)))


def _read(union: Any, line: bytes) -> Any:
    return decode_union(union, json.loads(line))

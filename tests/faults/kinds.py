"""The faults: kind × phase × rank, each with what must come of it."""

from __future__ import annotations

from autofit.domain.errors import AutofitError
from autofit.domain.event import TrainingEnded
from autofit.domain.outcome import (
    Crashed,
    DeviceLost,
    DiskFull,
    Diverged,
    Killed,
    NotFinite,
    OutOfMemory,
    Phase,
    Place,
    Unsupported,
)
from tests.faults.fault import REACTED_S, Fault, killed, raised, signalled, stopped
from tests.faults.saboteur import SAVING, SURVEY, Action, Order

PROBE_SILENCE_S = 8.0  # longer than a busy machine needs for any phase of so small a model
RUN_SILENCE_S = 30.0  # twice that until a step is measured
AGENT_SILENCE_S = 10.0  # of an agent beyond that of its ranks, or in a survey

_NO_SPACE, _BUG, _ECC = "No space left on device", "shape '[2, 3]' is invalid", "uncorrectable ECC error"

PROBE_FAULTS_ALWAYS = (
    killed(Phase.BACKWARD, 1),
    raised(Action.BUG, Crashed, f"crashed in forward on rank 0: RuntimeError: {_BUG}", where="forward", rank=0),
    raised(Action.SAFETENSORS, DiskFull, "the disk is full in the save on rank 0", _NO_SPACE, where="save", rank=0),
)

PROBE_FAULTS = (
    killed(Phase.START, 0),
    killed(Phase.BUILD, 1),
    killed(Phase.INITIALIZE, 0),
    killed(Phase.FORWARD, 1, 3),
    killed(Phase.STEP, 0),
    killed(Phase.STEP, 1, 2),
    killed(Phase.EVALUATE, 0),
    killed(Phase.SAVE, 1, 3),
    signalled(Order(Action.SIGTERM, "forward", 0, 2)),
    signalled(Order(Action.SIGSEGV, "forward", 0)),
    signalled(Order(Action.SIGABRT, "backward", 1, 2)),
    signalled(Order(Action.SIGBUS, "step", 0)),
    # Who waits for it falls silent, too, perhaps before it.
    stopped(Phase.BUILD, 0, words="no sign of life in", silence_s=PROBE_SILENCE_S),
    stopped(Phase.FORWARD, 1, 2, words="no sign of life in", silence_s=PROBE_SILENCE_S),
    raised(Action.DEVICE_MEMORY, OutOfMemory, "out of memory in set-up", where="initialize", rank=0),
    raised(Action.DEVICE_MEMORY, OutOfMemory, "out of memory in backward", where="backward", rank=1),
    raised(Action.HOST_MEMORY, OutOfMemory, "out of memory in forward", where="forward", rank=0),
    raised(Action.PYTHON_MEMORY, OutOfMemory, "out of memory in the build", where="build", rank=1),
    raised(Action.SQUEEZE, OutOfMemory, "out of memory", where="forward", rank=1, entry=2),
    raised(Action.SHARED_MEMORY, OutOfMemory, "shared memory", where="forward", rank=0, place=Place.SHARED),
    raised(Action.DISK_FULL, DiskFull, "the disk is full in the save on rank 1", _NO_SPACE, where="save", rank=1),
    raised(Action.QUOTA, DiskFull, "the disk is full in the save on rank 0", "quota", where="save", rank=0),
    Fault(Order(Action.FILE_LIMIT, "save", 0), DiskFull, ("the disk is full in the save", "no space left for")),
    raised(Action.ECC, DeviceLost, "the device was lost in backward on rank 1", _ECC, where="backward", rank=1),
    raised(Action.DEVICE_LOST, DeviceLost, "the device was lost", where="step", rank=0),
    Fault(Order(Action.NOT_A_NUMBER, "forward", 0), NotFinite, ("not finite",)),  # every rank sees it in the sum
    raised(Action.UNSUPPORTED, Unsupported, "not supported", "not implemented for 'Half'", where="forward", rank=1),
    raised(Action.EXIT_3, Crashed, "ended with exit code 3 and no report", where="step", rank=0),
    raised(Action.EXIT_0, Crashed, "ended with exit code 0 and no report", where="backward", rank=1),
)

_AGENT_KILLED = "autofit's agent was killed by SIGKILL"

AGENT_FAULTS_ALWAYS = (Fault(Order(Action.SIGKILL, "backward", 1, generations=2), AutofitError, (_AGENT_KILLED,)),)

AGENT_FAULTS = (
    Fault(
        Order(Action.SIGSTOP, "forward", 0, generations=2),
        AutofitError,
        ("gave no sign of life",),
        PROBE_SILENCE_S + AGENT_SILENCE_S + REACTED_S,
    ),
    Fault(Order(Action.SIGKILL, "step", 0, generations=1), Killed, ("was killed by SIGKILL",)),
    Fault(Order(Action.SIGKILL, SURVEY), AutofitError, ("the survey of the data was killed by SIGKILL",)),
    Fault(Order(Action.SIGSEGV, SURVEY), AutofitError, ("the survey of the data crashed by SIGSEGV",)),
    Fault(Order(Action.SIGKILL, SURVEY, generations=2), AutofitError, (_AGENT_KILLED,)),
    Fault(Order(Action.SIGSTOP, SURVEY), AutofitError, ("the survey of the data gave no sign of life",)),
    Fault(Order(Action.DISK_FULL, SURVEY), AutofitError, (_NO_SPACE,)),
    Fault(Order(Action.PYTHON_MEMORY, SURVEY), AutofitError, ("memory",)),
)

_STANDS = "rank {} stands still in forward"
_NO_CHECKPOINT = "no checkpoint can be saved"  # and the training goes on

# Of so many steps with so many micro-batches and checkpoints (job.py): a rank comes to its backward passes 5 and 6 in
# step 3, and rank 0 to its saves 1 to 5 and rank 1 to 1 and 2 in the checkpoint of step 2.
RUN_FAULTS_ALWAYS = (killed(Phase.STEP, 1, 3, saved_step=2),)

RUN_FAULTS = (
    killed(Phase.START, 0),
    killed(Phase.BUILD, 1),
    killed(Phase.INITIALIZE, 0),
    killed(Phase.STEP, 0, 5, saved_step=4),
    killed(Phase.BACKWARD, 1, 5, saved_step=2),
    killed(Phase.EVALUATE, 1, 5, saved_step=2),
    killed(Phase.SAVE, 1, 30, saved_step=2),
    killed(Phase.SAVE, 0, 70, saved_step=6),
    signalled(Order(Action.SIGKILL, SAVING, 0, 7), saved_step=2),
    signalled(Order(Action.SIGKILL, SAVING, 1, 3), saved_step=2),
    signalled(Order(Action.SIGSEGV, "backward", 1, 5), saved_step=2),
    signalled(Order(Action.SIGABRT, "save", 0, 25), saved_step=2),
    signalled(Order(Action.SIGBUS, "forward", 0, 9), saved_step=4),
    stopped(Phase.FORWARD, 0, 7, words=_STANDS.format(0), silence_s=RUN_SILENCE_S, saved_step=2),
    stopped(Phase.FORWARD, 1, 7, words=_STANDS.format(1), silence_s=RUN_SILENCE_S, saved_step=2),
    raised(Action.DEVICE_MEMORY, OutOfMemory, "memory", where="backward", rank=1, entry=5, saved_step=2),
    raised(Action.PYTHON_MEMORY, OutOfMemory, "memory", where="build", rank=0),
    raised(Action.SQUEEZE, OutOfMemory, "memory", where="forward", rank=0, entry=6, saved_step=2),
    raised(
        Action.SHARED_MEMORY, OutOfMemory, "/dev/shm", where="forward", rank=1, entry=5, place=Place.SHARED,
        saved_step=2,
    ),
    Fault(Order(Action.DISK_FULL, SAVING, 0, 7), TrainingEnded, (_NO_CHECKPOINT,), saved_step=6),
    Fault(Order(Action.QUOTA, SAVING, 1, 3), TrainingEnded, (_NO_CHECKPOINT,), saved_step=6),
    Fault(Order(Action.FILE_LIMIT, "save", 1, 22), TrainingEnded, (_NO_CHECKPOINT,), saved_step=2),
    Fault(Order(Action.FILE_LIMIT, "save", 0, 64), DiskFull, ("the disk is full in the save",), saved_step=6),
    raised(Action.ECC, DeviceLost, "the device was lost", _ECC, where="backward", rank=1, entry=6, saved_step=2),
    raised(Action.DEVICE_LOST, DeviceLost, "the device was lost", where="step", rank=0, entry=3, saved_step=2),
    Fault(Order(Action.NOT_A_NUMBER, "forward", 0, 7), Diverged, ("diverged",), saved_step=2),
    raised(Action.BUG, Crashed, _BUG, where="step", rank=1, entry=3, saved_step=2),
    raised(Action.EXIT_3, Crashed, "exit code 3", where="backward", rank=0, entry=5, saved_step=2),
    raised(Action.EXIT_0, Crashed, "exit code 0", where="backward", rank=1, entry=5, saved_step=2),
    Fault(Order(Action.SIGKILL, "step", 0, 3, generations=1), Killed, ("killed by SIGKILL",), saved_step=2),
    Fault(Order(Action.SIGKILL, "step", 1, 3, generations=2), Killed, ("killed by SIGKILL",), saved_step=2),
)  # fmt: skip

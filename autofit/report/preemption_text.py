"""What is said when a signal ended a full run: what is kept of it, and how it goes on."""

from __future__ import annotations

from autofit.domain.ending import GO_ON, signal_name
from autofit.domain.run_end import Preempted, Requeue, Unsaved
from autofit.domain.units import brief_seconds


def preempted_text(end: Preempted | Unsaved, folder: str) -> str:
    """What is kept in `folder`, in one sentence."""
    name = signal_name(end.signal)
    if isinstance(end, Preempted) and end.step is None:
        return f"{name}: ended, without a checkpoint of its last step: {folder} lies on a full disk; {GO_ON}."
    if isinstance(end, Preempted):
        return (
            f"{name}: saved after step {end.step:,}, and ended. The same command goes on from there: {folder} has it."
        )
    grace = brief_seconds(end.grace_s)
    return f"{name}: the {grace} of --grace-seconds were over before all ranks had saved in {folder}; {GO_ON}."


def requeue_text(job: str, restart_count: int, requeue: Requeue) -> str:
    """What Slurm says to starting the job again, in one sentence."""
    match requeue:
        case Requeue.ASKED:
            return f"Slurm starts job {job} again (restart {restart_count + 1}): it goes on from there."
        case Requeue.NOT_ALLOWED:
            return f"Slurm does not start job {job} again by itself: `sbatch --requeue` would allow it."
        case Requeue.ENDING:
            return f"Slurm does not start job {job} again: it was cancelled, or its time was over."
        case Requeue.FAILED:
            return f"Slurm did not take the request to start job {job} again: `scontrol requeue {job}` does it by hand."

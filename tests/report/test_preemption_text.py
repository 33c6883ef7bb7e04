"""Every end by a signal has its sentence: what is kept, and how it goes on."""

from __future__ import annotations

import signal

import pytest

from autofit.domain.run_end import Preempted, Requeue, Unsaved
from autofit.report.preemption_text import preempted_text, requeue_text

GO_ON = "the same command goes on from the last checkpoint."


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (
            Preempted(1200, signal.SIGTERM),
            "SIGTERM: saved after step 1,200, and ended. The same command goes on from there: runs/a has it.",
        ),
        (
            Preempted(None, signal.SIGUSR1),
            f"SIGUSR1: ended, without a checkpoint of its last step: runs/a lies on a full disk; {GO_ON}",
        ),
        (
            Unsaved(signal.SIGUSR2, 45.0),
            f"SIGUSR2: the 45 s of --grace-seconds were over before all ranks had saved in runs/a; {GO_ON}",
        ),
    ],
)
def test_every_end_has_its_sentence(end: Preempted | Unsaved, told: str) -> None:
    assert preempted_text(end, "runs/a") == told


def test_every_answer_of_slurm_has_its_sentence() -> None:
    told = {answer: requeue_text("7_3", 1, answer) for answer in Requeue}
    assert told[Requeue.ASKED] == "Slurm starts job 7_3 again (restart 2): it goes on from there."
    assert all("job 7_3" in text for text in told.values())
    assert len(set(told.values())) == len(Requeue)

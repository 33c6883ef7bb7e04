"""What is said when a full run did not come to its end."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from autofit.domain.divergence import ChangedNothing, Divergence, EndedNotFinite, Stopped, Symptom
from autofit.domain.outcome import (
    Crashed,
    DeviceLost,
    DiskFull,
    Diverged,
    Killed,
    NodeLost,
    OutOfMemory,
    Phase,
    Place,
    SignalCrash,
    TimedOut,
    Unsupported,
    UserFault,
)
from autofit.domain.run_end import MergeFailed, NoModel, RunFailure
from autofit.report.run_end_text import run_failure_text, step_down_text

LOG = Path("/run/logs/training.log")
GO_ON = "the same command goes on from the last checkpoint"


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (
            Crashed(1, Phase.BACKWARD, "boom", "x.log"),
            f"the training failed in backward on rank 1: boom\nits log is {LOG}; {GO_ON}",
        ),
        (
            Unsupported("no kernel", 1.0, 0, Phase.BUILD),
            f"the training failed in build on rank 0: no kernel\nits log is {LOG}; {GO_ON}",
        ),
        (
            Crashed(None, Phase.START, "the job ended", None, exit_code=3),
            f"the training ended with exit code 3 and left no report; its log is {LOG}, and {GO_ON}",
        ),
        (
            Killed(1, Phase.STEP, signal.SIGKILL),
            "the training failed: rank 1 was killed by SIGKILL in the optimizer step\n"
            f"its log is {LOG}; the signal came from outside: a person, a scheduler or a limit; {GO_ON}",
        ),
        (
            SignalCrash(None, Phase.STEP, signal.SIGSEGV),
            "the training failed: the job crashed by SIGSEGV in the optimizer step\n"
            f"its log is {LOG}; {GO_ON}; where it crashes again, the log may name the library",
        ),
        (
            DiskFull(0, Phase.SAVE, "no space is left for /c/checkpoint-4"),
            "the training failed: the disk is full in the save on rank 0: no space is left for /c/checkpoint-4\n"
            f"its log is {LOG}; once there is room, the same command goes on",
        ),
        (
            SignalCrash(0, Phase.STEP, signal.SIGBUS),
            "the training failed: rank 0 crashed by SIGBUS in the optimizer step\n"
            f"its log is {LOG}; most often it is short of shared memory: make /dev/shm larger "
            f"(docker run --shm-size 16g), then {GO_ON}",
        ),
        (
            DeviceLost(0, Phase.STEP, "CUDA error: uncorrectable ECC error encountered", xid=48),
            "the training failed: the device was lost in the optimizer step on rank 0: CUDA error: uncorrectable ECC "
            f"error encountered (Xid 48)\nits log is {LOG}; see what nvidia-smi and the kernel's log (dmesg) say of "
            f"it; once it is reset, {GO_ON}",
        ),
        (
            NodeLost("n2", Phase.STEP, "its agent is gone"),
            "the training failed: node n2 was lost in the optimizer step: its agent is gone\n"
            f"its log is {LOG}; see to that n2 answers, then {GO_ON}",
        ),
        (
            UserFault(0, Phase.REWARD, "rewards.py:brevity: KeyError: 'answer'"),
            "the training failed in reward on rank 0: rewards.py:brevity: KeyError: 'answer'\n"
            f"its log is {LOG}; once that is mended, {GO_ON}",
        ),
        (
            TimedOut(1, Phase.STEP, 1800.0),
            "no rank has moved for 30:00: rank 1 stands still in the optimizer step, and the training was ended\n"
            f"the stacks of all ranks are in {LOG}; {GO_ON}",
        ),
        (NoModel("/run/model"), f"the training ended and left no model in /run/model; its log is {LOG}"),
        (MergeFailed("/run/model"), f"merging failed, the adapter in /run/model is whole; the log is {LOG}"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_every_end_has_its_sentence(end: RunFailure, told: str) -> None:
    assert run_failure_text(end, LOG) == told


def test_out_of_memory_says_which_memory_where_and_how_much() -> None:
    text = run_failure_text(OutOfMemory(1, Phase.BACKWARD, Place.DEVICE, "full", 1_500_000_000), LOG)
    assert text.startswith("the training failed in backward on rank 1: out of device memory (asked for 1.5 GB)\n")
    assert str(LOG) in text
    assert "last checkpoint" not in text, "the same again would run out of memory again"
    assert "a smaller --micro-batch" in text
    unseen = run_failure_text(OutOfMemory(None, Phase.START, Place.HOST, "killed"), LOG)
    assert unseen.startswith("the training failed in start: out of host memory\n")
    assert "--micro-batch" not in unseen
    shared = run_failure_text(OutOfMemory(0, Phase.FORWARD, Place.SHARED, "full"), LOG)
    assert shared.startswith("the training failed in forward on rank 0: out of shared memory\n")
    assert "make /dev/shm larger (docker run --shm-size" in shared


@pytest.mark.parametrize(
    ("divergence", "told"),
    [
        (
            Stopped(Symptom.LOSS_NOT_FINITE, 1_234, "/c/checkpoint-8"),
            "the training has diverged: the loss is not finite since step 1,234; the last good checkpoint is "
            "/c/checkpoint-8. A lower --learning-rate with another --output-dir may hold, --on-divergence warn goes on "
            "all the same.",
        ),
        (
            Stopped(Symptom.GRADIENT_EXPLODED, 1, None),
            "the training has diverged: the gradient norm has exploded since step 1; there is no checkpoint from "
            "before. It began so: look at the model's weights, and at its --dtype.",
        ),
        (
            EndedNotFinite(True, None, None),
            "the training has ended, and its evaluation loss is not finite; there is no checkpoint from before. A "
            "lower --learning-rate with another --output-dir may hold, --on-divergence warn goes on all the same.",
        ),
        (
            ChangedNothing(was_skipped=True),
            "the training has changed nothing: DeepSpeed skipped every step, for the gradients were not finite; look "
            "at the model's weights",
        ),
        (
            ChangedNothing(was_skipped=False),
            "the training has changed nothing: the learning rate or the gradient was 0 in every step; look at "
            "--learning-rate and the warm-up",
        ),
    ],
    ids=["stopped", "from the first step on", "at its end", "skipped", "unmoved"],
)
def test_a_divergence_says_what_it_was_and_what_may_mend_it(divergence: Divergence, told: str) -> None:
    text = run_failure_text(Diverged(0, Phase.STEP, divergence), LOG)
    assert text == f"{told}\nits log is {LOG}"


@pytest.mark.parametrize(
    ("end", "step", "text"),
    [
        (OutOfMemory(1, Phase.FORWARD, Place.DEVICE, ""), 411, "step 412 ran out of device memory on rank 1"),
        (
            OutOfMemory(0, Phase.SAVE, Place.DEVICE, ""),
            1000,
            "save after step 1,000 ran out of device memory on rank 0",
        ),
        (OutOfMemory(None, Phase.FORWARD, Place.HOST, ""), 0, "step 1 ran out of host memory"),
        (OutOfMemory(0, Phase.BUILD, Place.DEVICE, ""), None, "the start ran out of device memory on rank 0"),
    ],
)
def test_what_happened_is_said_with_its_step(end: OutOfMemory, step: int | None, text: str) -> None:
    assert step_down_text(end, step) == text

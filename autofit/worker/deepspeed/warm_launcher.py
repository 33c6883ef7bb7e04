"""DeepSpeed's launcher for autofit's own training, as `deepspeed` runs it, in a process that imports everything once.

What it starts, launch.py and below that the ranks, is forked from here: so each of them is there at once. With
`--stand-by FD` it does its imports, closes FD, and waits for the words of `deepspeed` on its standard input, a line of
JSON; it ends when the input does.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import FrameType, SimpleNamespace

from autofit.process.rank_place import write_exit_code
from autofit.worker.rank.lifecycle import die_with_parent
from autofit.worker.script.python_main import leave_directory

_SCHEDULERS_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)
_SIGNALLED = 128
STAND_BY = "--stand-by"
REPORTS = "--reports"  # of a rank (`worker/training/full_run/full_run_rank.py`)
_IMPORTED = (
    "autofit.worker.agent.imports",
    "autofit.worker.train",
    "autofit.worker.training.full_run.rank_training",
    "deepspeed.launcher.runner",
    "deepspeed.launcher.launch",
)


def main() -> None:
    """Runs the launcher with the words that are given or told, and leaves with its exit code.

    It ends when its ranks do: what a scheduler sends to every process of a job the ranks hear, to save, and their
    supervisor, who sees to it that they end.
    """
    leave_directory()
    die_with_parent()
    _hear_nothing()
    _import_all()
    words = sys.argv[1:]
    if words[:1] == [STAND_BY]:
        os.close(int(words[1]))
        words = _told()
    if words:
        _launch(words)


def _hear_nothing() -> None:
    for number in _SCHEDULERS_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: None)  # SIG_IGN would be the ranks', too, where they are started anew


def _only_interrupts(number: int, handler: Callable[[int, FrameType | None], None]) -> None:
    """Has launch.py handle SIGINT alone: at SIGTERM it would end its ranks, one after the other."""
    if number == signal.SIGINT:
        signal.signal(number, handler)
    else:
        _hear_nothing()


def _import_all() -> None:
    from autofit.worker.agent.forking import ready_to_fork

    with ready_to_fork():
        for name in _IMPORTED:
            import_module(name)


def _told() -> list[str]:
    """The words that are told; none where nobody wants them run any more."""
    line = sys.stdin.buffer.readline()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, sys.stdin.fileno())  # the ranks have nothing to hear
    os.close(null)
    return [] if not line else list(json.loads(line))


def _can_fork() -> bool:
    """Whether the launcher counts the devices without CUDA, as torch does where NVML knows them: a fork of a process
    that has called CUDA cannot use it any more. Else all are started anew, as `deepspeed` does."""
    import torch

    return os.environ.get("DS_ACCELERATOR") != "cuda" or torch.cuda._device_count_nvml() > 0


def _end_teller(words: Sequence[str]) -> Callable[[Mapping[str, str], int], None]:
    """Leaves how each rank ended beside its report: launch.py looks once a second, and may be the first to see it."""
    reports = Path(words[words.index(REPORTS) + 1])

    def leave(env: Mapping[str, str], exit_code: int) -> None:
        with suppress(OSError):  # a full disk: then it is only known where it was seen in /proc
            write_exit_code(reports, int(env["RANK"]), exit_code)

    return leave


def _launch(words: list[str]) -> None:
    from deepspeed.launcher import launch, runner

    from autofit.worker.deepspeed.forked_module import ForkedModule, fork_modules_of, leave

    if _can_fork():
        fork_modules_of(runner)
        fork_modules_of(launch, _end_teller(words))
        launch.signal = SimpleNamespace(**vars(signal) | {"signal": _only_interrupts})
    sys.argv = ["deepspeed", *words]
    code: object = 0
    try:
        runner.main()
    except SystemExit as left:
        code = left.code
    # DeepSpeed takes a launch.py that was killed for a success.
    killed = next((one.returncode for one in ForkedModule.started if (one.returncode or 0) < 0), None)
    leave(code if killed is None or code else _SIGNALLED - killed)


if __name__ == "__main__":
    main()

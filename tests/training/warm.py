"""A process that has imported everything and forks the ranks of many small trainings; see `runs.py`.

A line of JSON in: the processes of one training, each {"module", "arguments", "environment", "log"}. A line out: their
exit codes. The first failure ends the others, which would wait for it for ever.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from typing import Any, NoReturn

import autofit.worker.agent.preload
import autofit.worker.training.full_run.full_run_rank  # noqa: F401
from autofit.worker.rank.lifecycle import die_with_parent, end_process


def _start(job: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        _run(job)
    return pid


def _run(job: dict[str, Any]) -> NoReturn:
    die_with_parent()
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(job["environment"])
    sys.argv = [job["module"], *job["arguments"]]
    code = 0
    try:
        importlib.import_module(job["module"]).main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    end_process(code)


def _wait(pids: list[int]) -> list[int]:
    codes: dict[int, int] = {}
    while len(codes) < len(pids):
        pid, status = os.wait()
        codes[pid] = os.waitstatus_to_exitcode(status)
        if codes[pid] != 0:
            for other in set(pids) - set(codes):
                os.kill(other, signal.SIGKILL)
    return [codes[pid] for pid in pids]


def main() -> None:
    print("warm", flush=True)
    for line in sys.stdin:
        print(json.dumps(_wait([_start(job) for job in json.loads(line)])), flush=True)


if __name__ == "__main__":
    main()

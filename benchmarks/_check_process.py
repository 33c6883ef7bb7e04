"""The process in which checks run: each in it, or each in a rank that is forked as a probe's is.

python _check_process.py FD KIND DEVICE CHECKS: a JSON line a finding goes to the descriptor FD. DEVICE is the name for
CUDA_VISIBLE_DEVICES, CHECKS is JSON; all of one place.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from typing import Any

from _check import Check, Finding, Say, Where

from autofit.domain.codec import decode
from autofit.domain.hardware import DeviceKind

Take = Callable[[Finding], None]


def main() -> None:
    fd, kind, device = int(sys.argv[1]), DeviceKind(sys.argv[2]), sys.argv[3]
    checks = [decode(Check, each) for each in json.loads(sys.argv[4])]

    def take(finding: Finding) -> None:
        os.write(fd, json.dumps(asdict(finding)).encode() + b"\n")

    if checks[0].where is Where.RANK:
        _run_in_ranks(checks, kind, device, take)
        return
    for check in checks:
        _run_guarded(check, kind, take)


def _run_guarded(check: Check, kind: DeviceKind, take: Take) -> None:
    """Whatever the body raises is a finding."""
    try:
        check.run(kind, Say(check.name, take))
    except Exception as error:
        traceback.print_exc()
        take(Finding(check.name, False, " ".join(f"{type(error).__name__}: {error}".split())[:300], check.advice))


def _run_in_ranks(checks: Sequence[Check], kind: DeviceKind, device: str, take: Take) -> None:
    """Each in a rank of its own, one after the other."""
    from autofit.worker.agent.fork_server import PRELOAD, start_fork_server
    from autofit.worker.agent.line_reader import LineReader

    began_at_s = time.monotonic()
    commands, _held_open = os.pipe()
    context = start_fork_server(PRELOAD, LineReader(commands))
    take(Finding("fork server", True, f"everything imported in {time.monotonic() - began_at_s:.1f} s"))
    for check in checks:
        _run_in_rank(context, check, kind, device, take)


def _run_in_rank(context: Any, check: Check, kind: DeviceKind, device: str, take: Take) -> None:
    from autofit.worker.agent.fork_server import fork

    process, findings = fork(context, _rank_main, check, kind, device)
    deadline_s = time.monotonic() + check.limit_s
    is_open = True
    while is_open and wait_for([findings], max(0.0, deadline_s - time.monotonic())):
        try:
            take(Finding(**json.loads(findings.recv_bytes())))
        except EOFError:
            is_open = False
    process.join(max(0.0, deadline_s - time.monotonic()))
    if process.exitcode is None:
        process.kill()
        process.join()
        take(Finding(check.name, False, f"no end within {check.limit_s:.0f} s", check.advice))
    elif process.exitcode != 0:
        take(Finding(check.name, False, f"its rank ended with {process.exitcode}", check.advice))


def _rank_main(check: Check, kind: DeviceKind, device: str, findings: Connection) -> None:
    from autofit.probing.protocol import Share
    from autofit.worker.agent.forked_process import forget_fork_server, set_rank_variables
    from autofit.worker.rank.device import show_devices
    from autofit.worker.rank.lifecycle import die_with_parent, end_process

    die_with_parent()
    forget_fork_server()
    set_rank_variables(Share(0, 1, 0, 1, (), "127.0.0.1", os.getpid()), 0, 1)
    if kind is DeviceKind.CUDA:
        show_devices((device,))
    _run_guarded(check, kind, lambda finding: findings.send_bytes(json.dumps(asdict(finding)).encode()))
    end_process(0)


if __name__ == "__main__":
    main()

"""A stand-in for DeepSpeed's launcher with its launch.py and two ranks, and the command that hands over to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Union

from autofit.domain.codec import decode_union
from autofit.domain.job_end import Completed, Interrupted
from autofit.domain.outcome import Failure
from tests.waiting import DEADLINE_S, is_alive, wait_until

_COMMAND = """
import sys
from autofit.cli.boundary import die_of
from autofit.domain.codec import to_json
from autofit.running.handover import hand_over
job = hand_over(sys.argv[3:], master_port=int(sys.argv[1]), command=[sys.executable], grace_s=float(sys.argv[2]))
with open("end", "w") as stream:
    stream.write(to_json(job.end))
code = job.exit_code
die_of(-code) if code < 0 else sys.exit(code)
"""

_TELL = """
import os, signal, subprocess, sys, time
def tell(text):
    with open("told", "a") as stream:
        stream.write(text + "\\n")
def tell_signals(who, then):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: (tell(f"{who} {signal.Signals(number).name}"), then(number)))
"""

LAUNCHER = """
from tell import *
launch = subprocess.Popen([sys.executable, "launch.py", "deepspeed.launcher.launch", *sys.argv[1:]])
tell(f"pid {os.getpid()}")
code = launch.wait()
sys.exit(code if code > 0 else 0)
"""

LAUNCH = """
from tell import *
tell_signals("launch", lambda number: None)
ranks = [subprocess.Popen([sys.executable, "rank.py", str(rank), *sys.argv[2:]]) for rank in range(2)]
tell(f"pid {os.getpid()}")
codes = [rank.wait() for rank in ranks]
sys.exit(max(abs(code) for code in codes))
"""

RANK = """
from tell import *
rank, way = sys.argv[1], sys.argv[2]
def save(number):
    time.sleep(0.3)
    tell(f"saved {rank}")
    os._exit(0)
if way == "alone":
    os.setsid()
if way != "plain":
    tell_signals(f"rank{rank}", (lambda number: None) if way == "deaf" else save)
tell(f"pid {os.getpid()}")
while not os.path.exists("finish"):
    time.sleep(0.01)
if way == "daemon":
    subprocess.Popen(["sleep", "600"], start_new_session=True)
"""


class Job:
    """The command, started in a folder of its own; everybody in it writes what happens to them."""

    def __init__(self, folder: Path, *words: str, grace_s: float = 20.0, port: int = 1, **settings: object) -> None:
        self._told = folder / "told"
        self._finish = folder / "finish"
        self._end = folder / "end"
        for name, text in (("tell", _TELL), ("launcher", LAUNCHER), ("launch", LAUNCH), ("rank", RANK)):
            if not (folder / f"{name}.py").exists():
                (folder / f"{name}.py").write_text(text)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _COMMAND, str(port), str(grace_s), "launcher.py", *words],
            cwd=folder,
            **{"start_new_session": True, **settings},  # type: ignore[call-overload]
        )

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *_: object) -> None:
        for pid in [self.process.pid, *self.pids()]:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)

    def told(self) -> list[str]:
        return self._told.read_text().splitlines() if self._told.exists() else []

    def heard(self) -> list[str]:
        """Without what everybody tells at the start."""
        return sorted(line for line in self.told() if not line.startswith("pid"))

    def pids(self) -> list[int]:
        """Launcher, launch.py and ranks, as they came up."""
        return [int(line.split()[1]) for line in self.told() if line.startswith("pid")]

    def wait_started(self, count: int = 4) -> None:
        wait_until(lambda: len(self.pids()) == count)

    def finish(self) -> None:
        """The ranks come to their end."""
        self._finish.touch()

    @property
    def end(self) -> Completed | Interrupted | Failure:
        """What the command has found that it came to."""
        found: Completed | Interrupted | Failure
        found = decode_union(Union[Completed, Interrupted, Failure], json.loads(self._end.read_text()))
        return found

    def ended(self) -> int:
        """The return code; nobody of the job is left."""
        code = self.process.wait(DEADLINE_S)
        assert [pid for pid in self.pids() if is_alive(pid)] == []
        return code

"""The full run as a child, with a stand-in for DeepSpeed's launcher: however it ends, nothing of it is left."""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from autofit.domain.codec import encode
from autofit.domain.event import ModelLoading, Note, RankEvent, TrainingEnded, TrainingProgress
from autofit.domain.outcome import Crashed, OutOfMemory, Phase, Place, TimedOut
from autofit.probing.protocol import RankTrained, to_line
from autofit.process import signals
from autofit.process.python import module_command
from autofit.running import full_run, training_process
from autofit.running.stall_judge import LEAST_S
from autofit.running.supervision import USUAL, Supervision
from autofit.running.training_command import TrainingFiles
from autofit.running.training_process import Launcher
from tests.build_process import builder_command, building
from tests.builders import GB, make_hardware
from tests.fast_clock import FastClock
from tests.waiting import DEADLINE_S, is_alive, wait_until

CPUS = make_hardware(2)
TRAINED = RankTrained(5, 3, 2, 2.5, 1.5, 100.0)


def progress(step: int) -> TrainingProgress:
    return TrainingProgress(step, 2, 2.0, 100.0, GB, 1.0)


class Bench:
    """A run folder, and the shell script that stands in for `deepspeed` there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        names = ("request", "choice", "ds", "checkpoints", "model", "logs", "progress")
        self.files = TrainingFiles(*(root / name for name in names))
        self.files.reports.mkdir(parents=True, exist_ok=True)
        self.log_path = root / "training.log"
        self.pids = root / "pids"
        self.program = root / "deepspeed"
        self.supervision = USUAL

    def script(self, *lines: str) -> None:
        """What the stand-in does; `deepspeed` itself is a shell that stays the parent of what it starts."""
        self.program.write_text("#!/bin/sh\n" + "".join(f"{line}\n" for line in lines))
        self.program.chmod(0o755)

    def launcher(self) -> Launcher:
        return Launcher(CPUS, self.files, self.log_path, program=[str(self.program)], supervision=self.supervision)

    def place(self, rank: int) -> Path:
        return self.files.reports / f"rank{rank}-place.json"

    def write_place(self, rank: int, process_id: str, phase: Phase, step: int = 0) -> str:
        """Says where a rank is; `process_id` is a shell's word."""
        place = '{"type":"RankPlace","process_id":%s,"phase":"' + phase.value + f'","step":{step}' + "}"
        return f"printf '{place}' {process_id} > '{self.place(rank)}'"

    def watch(self, show: Callable[[Any], None]) -> int:
        with self.launcher() as started:
            for one in started.watch():
                show(one)
        return started.exit_code

    def write_progress(self, step: int) -> str:
        return f"echo '{json.dumps(encode(progress(step)))}' >> '{self.files.progress}'"

    def write_pid(self, word: str) -> str:
        return f"echo {word} >> '{self.pids}'"

    def alive(self) -> list[int]:
        """Of the processes that wrote their number: those that are still more than a name."""
        return [pid for pid in map(int, self.pids.read_text().split()) if is_alive(pid)]

    def check_nothing_lives(self) -> None:
        assert self.pids.read_text().split()
        wait_until(lambda: not self.alive())  # what was killed takes a moment to be gone


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(training_process, "_POLL_S", 0.02)
    monkeypatch.setattr(training_process, "_POLITE_S", 0.2)
    return Bench(tmp_path)


# Two ranks below the launcher, one of them with a child of its own; what is started in the background of a shell
# ignores SIGINT, as a rank in the middle of a collective does.
RANKS = ["sleep 600 & echo $! >> {0}", "sh -c 'sleep 600 & echo $! >> {0}; wait' & echo $! >> {0}"]


def ranks(bench: Bench) -> list[str]:
    all_there = f'while [ "$(wc -l < {bench.pids})" -lt 4 ]; do sleep 0.01; done'
    return [bench.write_pid("$$"), *(line.format(bench.pids) for line in RANKS), all_there]


def interrupt(_: TrainingProgress) -> None:
    raise KeyboardInterrupt


def test_progress_is_told_once_and_in_order_to_the_end(bench: Bench) -> None:
    whole, half = bench.write_progress(0), json.dumps(encode(progress(1)))
    bench.script(
        whole,
        f"printf %s '{half[:20]}' >> '{bench.files.progress}'",
        "sleep 0.1",  # longer than a look: half a line is seen, and left
        f"printf '%s\\n' '{half[20:]}' >> '{bench.files.progress}'",
        bench.write_progress(2),
        "echo said",
        "echo complained >&2",
        "exit 3",
    )
    told: list[TrainingProgress] = []
    assert bench.watch(told.append) == 3
    assert told == [progress(0), progress(1), progress(2)]
    assert bench.log_path.read_text() == "said\ncomplained\n"


def test_the_launcher_is_a_module_of_this_python(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pip install --user` and `--target` leave no `deepspeed` beside it; and a user's file may be called random.py."""
    python = bench.root / "my tools" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\necho "safe $PYTHONSAFEPATH"\nexit 3\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with Launcher(CPUS, bench.files, bench.log_path) as started:
        assert list(started.watch()) == []
    assert started.exit_code == 3
    told = bench.log_path.read_text().splitlines()
    assert told[: told.index("--hostfile")] == [*module_command("autofit.worker.deepspeed.warm_launcher")[1:]]
    assert told[-1] == "safe 1"


def test_what_ranks_say_to_people_is_told(bench: Bench) -> None:
    said = [Note("waiting"), ModelLoading(2, 9)]
    lines = [f"echo '{json.dumps(encode(one))}' >> '{bench.files.progress}'" for one in said]
    bench.script(*lines, bench.write_progress(1))
    told: list[RankEvent] = []
    bench.watch(told.append)
    assert told == [*said, progress(1)]


def test_ranks_that_are_killed_in_a_build_take_its_lock_along(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = bench.root / "builds"
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(builds))
    (builds / "op").mkdir(parents=True)
    builder = shlex.join(builder_command(builds / "op/lock"))
    bench.script(f"sleep 600 | {builder} &", f"until [ -e {builds}/op/lock ]; do sleep 0.01; done", "wait")
    with building(builds / "other") as other, bench.launcher():
        wait_until((builds / "op/lock").exists)
    assert not (builds / "op/lock").exists()
    assert other.lock.exists()


def test_a_second_start_adds_to_the_log(bench: Bench) -> None:
    bench.script("echo once")
    bench.watch(lambda one: None)
    bench.watch(lambda one: None)
    assert bench.log_path.read_text() == "once\nonce\n"


def test_ranks_that_outlive_the_launcher_are_ended(bench: Bench) -> None:
    bench.script(*ranks(bench), "exit 0")
    assert bench.watch(lambda one: None) == 0
    bench.check_nothing_lives()


def test_an_interruption_ends_the_launcher_and_everything_below_it(bench: Bench) -> None:
    bench.script(*ranks(bench), bench.write_progress(0), "wait")

    def look_and_interrupt(_: TrainingProgress) -> None:
        assert len(bench.alive()) == 4
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.watch(look_and_interrupt)
    bench.check_nothing_lives()


def test_a_launcher_that_heeds_no_interrupt_is_killed_too(bench: Bench) -> None:
    bench.script("trap '' INT TERM", *ranks(bench), bench.write_progress(0), "while :; do sleep 600; done")

    with pytest.raises(KeyboardInterrupt):
        bench.watch(interrupt)
    bench.check_nothing_lives()


def test_a_launcher_that_is_asked_to_end_may_say_its_last_words(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_process, "_POLITE_S", 30.0)
    bench.script("trap 'echo asked; exit 0' INT", bench.write_progress(0), "while :; do sleep 0.01; done")

    with pytest.raises(KeyboardInterrupt):
        bench.watch(interrupt)
    assert "asked" in bench.log_path.read_text()


# A training that is watched by a process of its own, as the command does it.
WATCHED = """
import sys
from pathlib import Path
sys.path[:0] = [str(Path(sys.argv[2]).parents[1])]
from tests.running.test_training_process import Bench
from autofit.cli import main
from autofit.running import training_process
training_process._POLITE_S = 0.2
main._run = lambda words: print("ready", flush=True) or Bench(Path(sys.argv[1])).watch(print)
main.main([])
"""


@pytest.mark.slow
def test_two_terminations_at_any_moment_end_everything(tmp_path: Path) -> None:
    """`timeout` sends two, one right after the other."""
    chance = random.Random(11)
    started = []
    for number in range(10):
        bench = Bench(tmp_path / str(number))
        bench.script(*ranks(bench), bench.write_progress(0), "wait")
        command = [sys.executable, "-c", WATCHED, str(bench.root), str(Path(__file__).parent)]
        started.append((bench, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)))
    for _, process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0.0, 0.2))
        process.send_signal(signal.SIGTERM)
        time.sleep(chance.choice([0.0, 0.0005, 0.005]))
        process.send_signal(signal.SIGTERM)
    for bench, process in started:
        _, complaints = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, complaints) == (143, b"autofit: terminated.\n")
        if bench.pids.exists():
            bench.check_nothing_lives()


def test_ranks_are_put_away_behind_the_shield(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C twice: the second one must not leave ranks behind."""
    bench.script(bench.write_progress(0), "sleep 600")
    shields: list[str] = []

    @contextmanager
    def recorded() -> Iterator[None]:
        shields.append("up")
        yield
        shields.append("down")

    close = Launcher._close

    def closing(started: Launcher) -> None:
        close(started)
        shields.append("all put away")

    monkeypatch.setattr(signals, "shielded", recorded)
    monkeypatch.setattr(Launcher, "_close", closing)
    with pytest.raises(KeyboardInterrupt):
        bench.watch(interrupt)
    assert shields == ["up", "all put away", "down"]


def test_ranks_that_do_not_move_any_more_are_ended_and_the_one_that_hangs_is_named(bench: Bench) -> None:
    """The others wait for the one that is a step behind; what has a handler for it leaves its stacks in the log."""
    clock = FastClock()
    bench.supervision = Supervision(clock=clock)
    answers = "import time; from autofit.process.stacks import answer_with_stacks; answer_with_stacks(); "
    answers += "print(1, flush=True); time.sleep(600)"
    bench.script(
        bench.write_pid("$$"),
        f"for n in 0 1; do {sys.executable} -c '{answers}' & echo $! >> '{bench.pids}'; eval pid$n=$!; done",
        f'while [ "$(wc -l < {bench.log_path})" -lt 2 ]; do sleep 0.01; done',
        bench.write_place(0, "$pid0", Phase.BACKWARD, 4),
        bench.write_place(1, "$pid1", Phase.FORWARD, 3),
        bench.write_progress(0),
        "wait",
    )
    with bench.launcher() as started:
        for one in started.watch():
            assert one == progress(0)
            clock.is_fast = True
    assert started.timed_out == TimedOut(1, Phase.FORWARD, 2 * LEAST_S)
    bench.check_nothing_lives()
    log = bench.log_path.read_text()
    for title in ("rank 0, in backward", "rank 1, in forward"):
        _, _, stacks = log.partition(f"--- the stacks of {title} ---")
        assert "most recent call first" in stacks.partition("---")[0]


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_is_set_anew_ends_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """It moves the dates of what the ranks touch, and what this process takes for now."""
    real, moved = time.time, []
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours * len(moved))
    set_anew = f"touch -d '{hours:+} hours' '{bench.place(0)}'"
    place = bench.write_place(0, "$$", Phase.STEP, 1)
    bench.script(place, bench.write_progress(0), "sleep 0.1", set_anew, bench.write_progress(1), "sleep 0.1", "exit 0")
    assert bench.watch(moved.append) == 0
    assert len(moved) == 2


def test_touches_keep_the_ranks_alive_whatever_the_clock_says(bench: Bench) -> None:
    """They go on for longer than any of them may stand still."""
    bench.supervision = Supervision(least_stall_s=2.0)
    touch = f"touch -d '-1 hour' '{bench.place(0)}'"
    bench.script(bench.write_place(0, "$$", Phase.SAVE), f"for n in $(seq 50); do {touch}; sleep 0.1; done")
    assert bench.watch(lambda one: None) == 0


def test_files_of_the_groups_port_are_taken_out_of_shared_memory(bench: Bench) -> None:
    """DeepSpeed leaves them for ever when its ranks are killed."""
    name = "/dev/shm/deepspeed_allreduce_buffer_$(id -u)_127.0.0.1_${port}"
    find = 'while [ "$1" != --master_port ]; do shift; done; port=$2'
    bench.script(find, f"touch {name}_0 {name}_1", f"echo {name}_0")
    bench.watch(lambda one: None)
    made = Path(bench.log_path.read_text().strip())
    assert made.name.startswith(f"deepspeed_allreduce_buffer_{os.getuid()}_")
    assert not list(made.parent.glob(made.name[:-1] + "*"))


def test_the_whole_training_reads_the_reports_of_its_own_start(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full_run, "Launcher", partial(Launcher, program=[str(bench.program)]))
    for rank in range(3):
        (bench.files.reports / f"rank{rank}.json").write_bytes(to_line(TRAINED))  # of an earlier start
    bench.files.progress.write_text("an earlier start's\n")
    report = to_line(TRAINED).decode().strip()
    bench.script(
        bench.write_progress(2),
        *(f"echo '{report}' > '{bench.files.reports}/rank{rank}.json'" for rank in range(2)),
    )
    told: list[TrainingProgress] = []
    ended = full_run.train(CPUS, bench.files, bench.log_path, told.append)
    assert told == [progress(2)]
    assert isinstance(ended, TrainingEnded)
    assert (ended.step_count, ended.model_path) == (2, str(bench.files.model))

    bench.script("exit 1")
    failed = full_run.train(CPUS, bench.files, bench.log_path, told.append)
    assert isinstance(failed, Crashed)
    assert (failed.rank, failed.exit_code, failed.log) == (None, 1, str(bench.log_path))


def test_a_rank_that_the_kernel_kills_for_want_of_memory_is_known_with_its_phase(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As launch.py has it: it leaves the others be for a second, ends them, and leaves with -9."""
    monkeypatch.setattr(full_run, "Launcher", partial(Launcher, program=[str(bench.program)]))
    reports, place = bench.files.reports, '{"type":"RankPlace","process_id":%s,"phase":"backward"}'
    bench.script(
        *(
            f"sleep 600 & pid{rank}=$!; printf '{place}' $pid{rank} > '{reports}/rank{rank}-place.json'"
            for rank in range(2)
        ),
        "kill -KILL $pid1",
        # What is told second was told after a look at the ranks: the first may have come right behind one.
        *(f"{bench.write_progress(n)}; until [ -e '{bench.root}/seen{n}' ]; do sleep 0.01; done" for n in range(2)),
        "kill -TERM $pid0; exit 247",
    )
    kills = iter([5, 6])

    def see(event: Any) -> None:
        (bench.root / f"seen{event.step}").touch()

    supervision = Supervision(oom_kill_count=lambda: next(kills))
    ended = full_run.train(CPUS, bench.files, bench.log_path, see, supervision=supervision)
    assert isinstance(ended, OutOfMemory)
    assert (ended.rank, ended.phase, ended.place) == (1, Phase.BACKWARD, Place.HOST)

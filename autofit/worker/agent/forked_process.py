"""What a process does that was forked from the fork server: its place, its streams, its end."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing import process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Phase
from autofit.domain.script import ScriptFacts
from autofit.probing.protocol import (
    Heartbeat,
    Job,
    RankReport,
    ScriptJob,
    ScriptSeen,
    ScriptSpec,
    Share,
    read_probe,
    to_line,
)
from autofit.process.stacks import answer_with_stacks


def rank_main(line: bytes, rank: int, report_path: str, heartbeats: Connection) -> NoReturn:
    """The entry of a rank. `heartbeats` carries what it says while it lives, and its report is left at its end."""
    from autofit.worker.rank.extension_builds import wait_for_builders
    from autofit.worker.rank.lifecycle import Rank, end_process, leave, run_guarded

    os.setsid()
    command = read_probe(line)
    spec, path = command.spec, Path(report_path)
    settle(spec.log_path)
    answer_with_stacks()

    def send(phase: Phase, step: int) -> None:
        heartbeats.send_bytes(to_line(Heartbeat(command.number, rank, phase, step)))

    def see(facts: ScriptFacts) -> None:
        heartbeats.send_bytes(to_line(ScriptSeen(command.number, facts)))

    def live(life: Rank) -> RankReport:
        if isinstance(spec, ScriptSpec):
            from autofit.worker.script import probed_script

            probed_script.run(spec, life, see, lambda report: leave(report, path))
        from autofit.worker.training import training_probe

        assert command.store_path is not None
        return training_probe.run(spec, life, Path(command.store_path))

    wait_for_builders(lambda wait: heartbeats.send_bytes(to_line(wait)))
    send(Phase.START, 0)
    if isinstance(spec, ScriptSpec):
        become_ordinary()
        set_script_environment(spec.job, spec.shares[command.node_index], rank)
    else:
        allow_workers()
        set_environment(spec.job, rank, command.number)
    end_process(run_guarded(spec.job, path, send, live))


def settle(log_path: str) -> None:
    """Does what comes first in any of them: it is to die with the fork server, and to say to the log what it says."""
    from autofit.worker.rank.lifecycle import die_with_parent

    die_with_parent()
    forget_fork_server()
    redirect_output(log_path)


def forget_fork_server() -> None:
    """Has locks made from here on (tqdm makes one) take their names out of /dev/shm at once, whatever ends this
    process."""
    multiprocessing.set_start_method("fork", force=True)


def allow_workers() -> None:
    """Lets this process have children of multiprocessing's, such as the workers that load data: a daemon may have
    none."""
    process.current_process()._config["daemon"] = False  # type: ignore[attr-defined]


def become_ordinary() -> None:
    """Makes this process as a script finds the one that a shell has started: no child of multiprocessing's, and free to
    have some."""
    multiprocessing.set_start_method(None, force=True)  # as it is before anyone sets it
    process.current_process().name = "MainProcess"
    allow_workers()
    process._parent_process = None  # type: ignore[attr-defined]
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)  # not the agent's commands
    os.close(null)


def redirect_output(log_path: str) -> None:
    fd = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def set_environment(job: Job, rank: int, name: int) -> None:
    """Sets the environment of a rank of autofit's own training. MASTER_PORT is only a name, of files in /dev/shm:
    nobody listens on it."""
    from autofit.worker.rank.device import show_devices
    from autofit.worker.rank.lifecycle import set_threads

    set_rank_variables(Share(0, 1, 0, job.process_count, (), "127.0.0.1", name), rank, job.rank_count)
    if job.devices:
        show_devices(job.devices)
    else:
        set_threads(job.rank_count)


def set_script_environment(job: ScriptJob, share: Share, rank: int) -> None:
    """Sets the environment of a rank of a user's script, which meets the others at the master's address."""
    from autofit.worker.rank.lifecycle import set_threads

    set_rank_variables(share, rank, job.rank_count)
    if job.kind is DeviceKind.CPU and "OMP_NUM_THREADS" not in os.environ:
        set_threads(share.rank_count)


def set_rank_variables(share: Share, rank: int, rank_count: int) -> None:
    """Says the place in the environment, as DeepSpeed's launcher does on the node of `share`."""
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank - share.first_rank),
        WORLD_SIZE=str(rank_count),
        LOCAL_SIZE=str(share.rank_count),  # DeepSpeed waits in shared memory for as many
        CROSS_RANK=str(share.node_index),
        CROSS_SIZE=str(share.node_count),
        MASTER_ADDR=share.master_address,
        MASTER_PORT=str(share.master_port),
    )
    if share.devices:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(share.devices)

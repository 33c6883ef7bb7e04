"""The entry of a rank of the full run, started by DeepSpeed's launcher; every path comes in as an argument."""

from __future__ import annotations

import argparse
import atexit
import json
import os
import select
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from autofit.domain.codec import decode, to_json
from autofit.domain.event import Note
from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Phase
from autofit.domain.request import Request
from autofit.domain.trial import Choice
from autofit.probing.protocol import Job, RankTrained
from autofit.process.build_locks.build_wait import BuildLocked, BuildWait, OnWait, WaitTeller
from autofit.process.files import keep_others_from_writing
from autofit.process.rank_place import PlaceFile
from autofit.process.stacks import answer_with_stacks
from autofit.worker.rank.device import show_devices
from autofit.worker.script.python_main import leave_directory
from autofit.worker.training.full_run.neighbours import Neighbours

if TYPE_CHECKING:
    from autofit.worker.rank.lifecycle import Rank


def main() -> None:
    leave_directory()
    keep_others_from_writing()  # a checkpoint is pickles, and whoever resumes from it runs them
    options = _options()
    answer_with_stacks()
    _follow_supervisor(options.supervisor)
    if options.devices:
        show_devices(options.devices.split(","))  # the launcher counts from 0 and cannot name MIG slices
    report_path = options.reports / f"rank{os.environ['RANK']}.json"
    report_path.unlink(missing_ok=True)  # an earlier start's
    place = PlaceFile(options.reports, int(os.environ["RANK"]))
    place.write(Phase.START)
    _import_all(options, place, report_path)
    from autofit.worker.rank.lifecycle import end_process, run_guarded, set_threads

    job = _job(options)
    if job.kind is DeviceKind.CPU:
        set_threads(job.rank_count)

    exit_code = run_guarded(job, report_path, place.write, lambda rank: _train(job, options, rank))
    atexit._run_exitfuncs()  # trackers send their last figures in one
    end_process(exit_code)  # threads of gloo that outlive the interpreter may abort a rank that has done everything


def _import_all(options: argparse.Namespace, place: PlaceFile, report_path: Path) -> None:
    """Imports everything before the rank's memory is first looked at, as in a probe. A build that is kept from its
    start is reported."""
    from autofit.worker.rank.extension_builds import wait_for_builders

    wait_for_builders(_wait_teller(place, options.progress))
    try:
        import autofit.worker.agent.preload  # noqa: F401
    except BuildLocked as error:
        from autofit.worker.rank.failure import rank_failed
        from autofit.worker.rank.lifecycle import write_report

        write_report(rank_failed(error, Phase.START, is_on_cpu=True, peak_bytes=None), report_path)
        raise


def _wait_teller(place: PlaceFile, progress: Path) -> OnWait:
    """Hears of a wait for a build: it is a sign of life, and rank 0 tells people for whom it waits."""

    def tell(text: str) -> None:
        with progress.open("a") as file:
            file.write(to_json(Note(text)) + "\n")

    teller = WaitTeller(tell)

    def hear(wait: BuildWait) -> None:
        place.write(Phase.START)
        if os.environ["RANK"] == "0":
            teller(wait)

    return hear


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trains with a configuration that autofit chose.")
    parser.add_argument("--request", type=Path, required=True, help="request.json of the run folder")
    parser.add_argument("--choice", type=Path, required=True, help="choice.json of the run folder")
    parser.add_argument("--deepspeed_config", type=Path, help="of the engine; left out: torch's DDP, without one")
    parser.add_argument("--device-kind", choices=[kind.value for kind in DeviceKind], required=True)
    parser.add_argument("--devices", default="", help="GPUs as CUDA_VISIBLE_DEVICES names them, by the PCI bus")
    parser.add_argument("--device-memory", type=int, help="bytes that a CPU rank may hold")
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--model-out", type=Path, required=True)
    parser.add_argument("--reports", type=Path, required=True, help="where each rank leaves its figures")
    parser.add_argument("--progress", type=Path, required=True, help="a line of JSON a step")
    parser.add_argument("--beat", help="told by the command.sh of older run folders; no longer of use")
    parser.add_argument("--supervisor", type=int, default=0, help="end when the process of this id has ended")
    parser.add_argument("--local_rank", type=int, default=0, help="given by the launcher")
    return parser.parse_args()


def _job(options: argparse.Namespace) -> Job:
    request = decode(Request, json.loads(options.request.read_text()))
    choice = decode(Choice, json.loads(options.choice.read_text()))
    return Job(
        request=request,
        strategy=choice.strategy,
        deepspeed_config=None if options.deepspeed_config is None else options.deepspeed_config.read_text(),
        kind=DeviceKind(options.device_kind),
        rank_count=int(os.environ["WORLD_SIZE"]),
        memory_limit_bytes=request.memory_limit_bytes,
        device_memory_bytes=options.device_memory,
    )


def _follow_supervisor(process_id: int) -> None:
    """Ends this rank when the process that supervises the run is gone: the launcher would let it live on."""
    if not process_id:
        return
    try:
        descriptor = os.pidfd_open(process_id)
    except ProcessLookupError:
        raise SystemExit(f"the process {process_id} that supervises this run has ended") from None

    def wait() -> None:
        select.select([descriptor], [], [])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="supervisor", daemon=True).start()


def _train(job: Job, options: argparse.Namespace, rank: Rank) -> RankTrained:
    from autofit.worker.training.full_run.rank_training import Paths, run

    paths = Paths(options.checkpoints, options.model_out, options.progress)
    return run(job, paths, rank, Neighbours(options.reports, rank.index, job.rank_count))


if __name__ == "__main__":
    main()

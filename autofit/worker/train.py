"""The full run on one rank, started by DeepSpeed's launcher; every path comes in as an argument."""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import threading
import time
from pathlib import Path
from typing import Any

from autofit.domain.codec import decode, to_json
from autofit.domain.event import Note, TrainingProgress
from autofit.domain.hardware import DeviceKind
from autofit.domain.outcome import Phase
from autofit.domain.request import Request
from autofit.domain.trial import Choice
from autofit.probing.build_wait import BuildLocked, OnWait, WaitTeller
from autofit.probing.protocol import BuildWait, Job, RankTrained
from autofit.probing.rank_place import PlaceFile
from autofit.process.saved_steps import last_whole
from autofit.worker.device import show_devices
from autofit.worker.python_main import leave_directory


def main() -> None:
    leave_directory()
    options = _options()
    _follow_supervisor(options.supervisor)
    if options.devices:
        show_devices(options.devices.split(","))  # the launcher counts from 0 and cannot name MIG slices
    report_path = options.reports / f"rank{os.environ['RANK']}.json"
    place = PlaceFile(options.reports, int(os.environ["RANK"]))
    place.write(Phase.START)
    _import_all(options, report_path)
    from autofit.worker.rank import run_guarded, set_threads

    job = _job(options)
    if job.kind is DeviceKind.CPU:
        set_threads(job.rank_count)

    def beat(phase: Phase, step: int) -> None:
        options.beat.touch()
        place.write(phase)

    raise SystemExit(run_guarded(job, report_path, beat, lambda rank: _train(job, options, rank)))


def _import_all(options: argparse.Namespace, report_path: Path) -> None:
    """Before the rank's memory is first looked at, as in a probe. A build that is kept from its start is reported."""
    from autofit.worker.extensions import heed_builders

    heed_builders(_wait_teller(options.beat, options.progress))
    try:
        import autofit.worker.preload  # noqa: F401
    except BuildLocked as error:
        from autofit.worker.failure import rank_failed
        from autofit.worker.rank import write_report

        write_report(rank_failed(error, Phase.START, on_cpu=True, peak_bytes=None), report_path)
        raise


def _wait_teller(beat: Path, progress: Path) -> OnWait:
    """To wait for a build is a sign of life, and rank 0 tells people for whom it waits."""

    def tell(text: str) -> None:
        with progress.open("a") as file:
            file.write(to_json(Note(text)) + "\n")

    teller = WaitTeller(tell)

    def hear(wait: BuildWait) -> None:
        beat.touch()
        if os.environ["RANK"] == "0":
            teller(wait)

    return hear


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trains with a configuration that autofit chose.")
    parser.add_argument("--request", type=Path, required=True, help="request.json of the run folder")
    parser.add_argument("--choice", type=Path, required=True, help="choice.json of the run folder")
    parser.add_argument("--deepspeed_config", type=Path, required=True)
    parser.add_argument("--device-kind", choices=[kind.value for kind in DeviceKind], required=True)
    parser.add_argument("--devices", default="", help="GPUs as CUDA_VISIBLE_DEVICES names them, by the PCI bus")
    parser.add_argument("--checkpoints", type=Path, required=True)
    parser.add_argument("--model-out", type=Path, required=True)
    parser.add_argument("--reports", type=Path, required=True, help="where each rank leaves its figures")
    parser.add_argument("--progress", type=Path, required=True, help="a line of JSON a step")
    parser.add_argument("--beat", type=Path, required=True, help="touched while the ranks go on")
    parser.add_argument("--supervisor", type=int, default=0, help="end when the process of this id has ended")
    parser.add_argument("--local_rank", type=int, default=0, help="given by the launcher")
    return parser.parse_args()


def _job(options: argparse.Namespace) -> Job:
    request = decode(Request, json.loads(options.request.read_text()))
    choice = decode(Choice, json.loads(options.choice.read_text()))
    return Job(
        request=request,
        strategy=choice.strategy,
        deepspeed_config=options.deepspeed_config.read_text(),
        kind=DeviceKind(options.device_kind),
        rank_count=int(os.environ["WORLD_SIZE"]),
        memory_limit_bytes=request.memory_limit_bytes,
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


def _train(job: Job, options: argparse.Namespace, rank: Any) -> RankTrained:
    import torch

    from autofit.worker.arguments import sft_config
    from autofit.worker.divergence_watch import DivergenceWatch
    from autofit.worker.generation import stop_also_at
    from autofit.worker.going_on import GoingOn
    from autofit.worker.model import peft_config, pretrained_model
    from autofit.worker.rank import join_group
    from autofit.worker.step_meter import StepMeter
    from autofit.worker.trainer import EngineWatch, PhasedTrainer
    from autofit.worker.training_data import training_data

    request = job.request
    join_group(job)
    rank.enter(Phase.BUILD)
    arguments = sft_config(job, output_path=str(options.checkpoints), overrides=_schedule(request))
    data = training_data(request)
    tokenizer, model = data.tokenizer, pretrained_model(job)
    if data.stop_token_id is not None:
        stop_also_at(model.generation_config, data.stop_token_id)
    meter = StepMeter()
    trainer = PhasedTrainer(
        model=model,
        args=arguments,
        train_dataset=data.train,
        eval_dataset=data.evaluation,
        processing_class=tokenizer,
        peft_config=peft_config(job),
        callbacks=[meter],
    )
    trainer.phase_hook = rank.enter
    trainer.add_callback(EngineWatch(trainer))
    trainer.add_callback(GoingOn(trainer))
    watch = DivergenceWatch(trainer, request.training.on_divergence)
    trainer.add_callback(watch)
    if rank.index == 0:
        trainer.add_callback(_progress(options.progress, meter, rank, watch))
    rank.enter(Phase.INITIALIZE)
    ended = trainer.train(resume_from_checkpoint=_checkpoint(request, options.checkpoints))
    eval_loss = _final_evaluation(trainer)
    watch.check_end(ended.training_loss if meter.last_loss is None else meter.last_loss, eval_loss)
    rank.enter(Phase.SAVE)
    trainer.save_model(str(options.model_out))
    if rank.index == 0:
        tokenizer.save_pretrained(str(options.model_out))
        if data.stop_token_id is not None:  # beside an adapter, too: merging heeds it
            model.generation_config.save_pretrained(str(options.model_out))
    torch.distributed.barrier()
    return RankTrained(
        peak_device_bytes=rank.meter.peak_device_bytes(),
        peak_host_bytes=rank.meter.peak_host_bytes(),
        step_count=trainer.state.global_step,
        first_loss=meter.first_loss,
        last_loss=meter.last_loss,
        tokens_per_s=meter.tokens_per_s,
        eval_loss=eval_loss,
        skipped_steps=watch.skipped_steps,
        trouble=None if watch.trouble is None else str(watch.trouble),
    )


def _final_evaluation(trainer: Any) -> float | None:
    """The loss of the model that is saved, evaluated now unless its last step was; None without evaluation data."""
    if trainer.eval_dataset is None:
        return None
    last = next((entry for entry in reversed(trainer.state.log_history) if "eval_loss" in entry), None)
    if last is not None and last["step"] == trainer.state.global_step and not trainer.args.load_best_model_at_end:
        return float(last["eval_loss"])
    return float(trainer.evaluate()["eval_loss"])


def _schedule(request: Request) -> dict[str, Any]:
    """What the user asked for; it stands behind what was given after `--`, which may set other names only."""
    training = request.training
    has_eval = request.eval_data is not None or request.eval_fraction > 0
    extra_names = {word.lstrip("-").split("=")[0].replace("-", "_") for word in training.extra_arguments}
    values: dict[str, Any] = {
        "num_train_epochs": training.epochs,
        "max_steps": training.max_steps if training.max_steps is not None else -1,
        "save_strategy": "steps",
        "save_steps": training.save_steps,
        "save_total_limit": 2,
        "eval_strategy": "steps" if has_eval else "no",
        "eval_steps": training.save_steps,
        "report_to": list(training.report_to) or "none",
    }
    return {name: value for name, value in values.items() if name not in extra_names}


def _checkpoint(request: Request, folder: Path) -> str | None:
    """The last whole one of this run; before it has one, that which the user named."""
    last = last_whole(folder)
    return request.training.resume if last is None else str(last)


def _progress(path: Path, meter: Any, rank: Any, watch: Any) -> Any:
    """A callback that writes one TrainingProgress a line."""
    from transformers import TrainerCallback

    class Progress(TrainerCallback):
        def __init__(self) -> None:
            self._file = path.open("a", buffering=1)
            self._first_step = 0
            self._began_at_s = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._first_step, self._began_at_s = state.global_step, time.monotonic()
            self._write(state)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
            if "loss" in logs:
                rank.step = state.global_step
                self._write(state, loss=float(logs["loss"]))
            elif "eval_loss" in logs:
                self._write(state, eval_loss=float(logs["eval_loss"]))

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._write(state, saved_step=state.global_step)

        def _write(self, state: Any, **values: Any) -> None:
            done = state.global_step - self._first_step
            pace_s = (time.monotonic() - self._began_at_s) / done if done else None
            progress = TrainingProgress(
                step=state.global_step,
                step_count=state.max_steps,
                loss=values.pop("loss", meter.last_loss),
                tokens_per_s=meter.last_tokens_per_s,
                peak_device_bytes=rank.meter.peak_device_bytes(),
                left_s=None if pace_s is None else pace_s * (state.max_steps - state.global_step),
                skipped_steps=watch.skipped_steps,
                trouble=None if watch.trouble is None else str(watch.trouble),
                **values,
            )
            self._file.write(to_json(progress) + "\n")

    return Progress()


if __name__ == "__main__":
    main()

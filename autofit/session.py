"""The story: request → hardware + model shape → ladder → estimates → probes → choice → the full run."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from glob import has_magic
from importlib.util import find_spec
from pathlib import Path

from autofit.domain.errors import NothingFits, UsageError
from autofit.domain.event import (
    Chosen,
    DataRead,
    GaveUp,
    LadderBuilt,
    MachineSeen,
    ModelRead,
    Note,
    ProbeBeat,
    ProbeStarted,
    Screen,
    TrainingEnded,
    TrainingStarted,
    TrialEnded,
)
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.ladder import Ladder
from autofit.domain.model import ModelShape
from autofit.domain.outcome import Measured, Phase
from autofit.domain.request import Request
from autofit.domain.strategy import Method, Strategy
from autofit.domain.trial import Choice, Choose, GiveUp, Probe, Trial
from autofit.domain.workload import BatchShape, DataProfile
from autofit.hardware.cgroup import oom_kill_count
from autofit.hardware.machine import detect
from autofit.hardware.model_files import read_model_files
from autofit.planning.capability import supported_attention, supported_dtypes
from autofit.planning.deepspeed_config import deepspeed_config
from autofit.planning.ladder import build_ladder
from autofit.planning.policy import decide
from autofit.planning.setting import Setting
from autofit.planning.workload import PAD_TO_MULTIPLE, typical_shapes, widths, worst_shape
from autofit.probing.agent import Agent
from autofit.probing.protocol import Job, ProbeSpec
from autofit.report.html import report_html
from autofit.report.request_diff import differences
from autofit.report.run_folder import RunFolder
from autofit.running.command import TrainingFiles, command_script, device_names
from autofit.running.training import merge
from autofit.running.training import train as run_training

TYPICAL_SHAPES = 96  # so many micro-batches before they repeat


@dataclass(frozen=True)
class Scene:
    """What is known before anything is tried."""

    request: Request
    hardware: Hardware
    shape: ModelShape


@dataclass(frozen=True)
class Tools:
    """What looks at the machine and what starts processes on it; a test brings its own."""

    detect: Callable[..., Hardware] = detect
    start_agent: Callable[..., Agent] = Agent
    run_training: Callable[..., TrainingEnded] = run_training
    merge: Callable[..., None] = merge


REAL_TOOLS = Tools()


def train(
    request: Request,
    *,
    output_dir: Path,
    screen: Screen,
    dry_run: bool = False,
    probe_timeout_s: float = 600.0,
    tools: Tools = REAL_TOOLS,
) -> None:
    """Finds the fastest strategy that fits, and trains with it; goes on where an interrupted run stopped.

    Raises an AutofitError with what the user can do; NothingFits when no rung does.
    """
    _check_checkpoint(request.training.resume)
    scene = _look(request, output_dir, screen, tools)
    _, ladder = _plan(scene, request.sequence_length)  # what cannot be asked for is said before anything is started
    if dry_run:
        screen.show(LadderBuilt(ladder))
        return
    folder = RunFolder(output_dir)
    with folder.lock():
        scene = _claim(scene, folder)
        if (result := folder.read_result()) is None:
            choice = folder.read_choice() or _search(scene, folder, screen, tools, probe_timeout_s)
            result = _run(scene, choice, folder, screen, tools)
        else:
            _recall(folder, screen)
        screen.show(result)


def _check_checkpoint(resume: str | None) -> None:
    if resume is not None and not Path(resume, "trainer_state.json").expanduser().is_file():
        raise UsageError(f"--resume {resume} is no whole checkpoint: it has no trainer_state.json")


def _look(request: Request, output_dir: Path, screen: Screen, tools: Tools) -> Scene:
    """The machine and the model."""
    hardware = tools.detect(
        ranks=request.ranks,
        memory_limit_bytes=request.memory_limit_bytes,
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
        disk_path=output_dir,
    )
    screen.show(MachineSeen(hardware))
    model = read_model_files(request.model)
    screen.show(ModelRead(model.shape))
    for note in model.notes:
        screen.show(Note(note))
    return Scene(_located(replace(request, model=model.path_or_id)), hardware, model.shape)


def _claim(scene: Scene, folder: RunFolder) -> Scene:
    """Makes the folder this request's own; a run that goes on keeps the machine's figures that it was begun with."""
    earlier, machine = folder.read_request(), folder.read_hardware()
    changes = list(differences(earlier, scene.request)) if earlier else []
    if machine is not None and not machine.is_same_machine(scene.hardware):
        changes.append(f"{machine.summary} there, {scene.hardware.summary} here")
    if changes and folder.has_training:
        raise UsageError(
            f"{folder.root} holds another training ({'; '.join(changes)}). "
            "Repeat that one, or name another folder with --output-dir."
        )
    if changes:
        folder.archive()  # a search alone is kept, and this request begins its own
    elif machine is not None:
        scene = replace(scene, hardware=machine)
    folder.write_request(scene.request)
    folder.write_hardware(scene.hardware)
    return scene


def _recall(folder: RunFolder, screen: Screen) -> None:
    """What was decided in a run that is finished already."""
    record = folder.record()
    assert record.choice is not None
    screen.show(Note(f"{folder.root} is finished already; another --output-dir trains anew"))
    screen.show(Chosen(record.choice, 0.0, len(record.trials), is_remembered=True))


def _plan(scene: Scene, worst_tokens: int) -> tuple[Setting, Ladder]:
    """What the policy walks; `worst_tokens` is the longest row that a batch will hold."""
    hardware = scene.hardware
    setting = Setting(scene.request, hardware, scene.shape, worst_tokens)
    dtypes = supported_dtypes(hardware)
    kernels = supported_attention(hardware, dtypes[0], find_spec("flash_attn") is not None)
    return setting, build_ladder(setting, kernels, dtypes)


def _search(scene: Scene, folder: RunFolder, screen: Screen, tools: Tools, probe_timeout_s: float) -> Choice:
    """Asks the policy and probes what it says until it chooses; every trial is written down before the next."""
    began_at_s = time.monotonic()
    with (
        tools.start_agent(
            kind=scene.hardware.kind, log_path=folder.logs / "agent.log", oom_kill_count=oom_kill_count
        ) as agent,
        tempfile.TemporaryDirectory(prefix="scratch-", dir=folder.root) as scratch,
    ):
        profile = agent.survey(scene.request, log_path=folder.logs / "survey.log")
        screen.show(DataRead(scene.request, profile))
        setting, ladder = _plan(scene, profile.longest_tokens)
        screen.show(LadderBuilt(ladder))
        trials = list(folder.read_trials())
        for trial in trials:
            screen.show(TrialEnded(trial, is_remembered=True))
        while isinstance(action := decide(ladder, trials, setting), Probe):
            screen.show(ProbeStarted(action.strategy, action.why))
            spec = _spec(scene, profile, action.strategy, trials, folder, Path(scratch), probe_timeout_s)
            outcome = agent.probe(spec, partial(_show_beat, screen, action.strategy))
            trials.append(Trial(action.strategy, ladder.estimate(action.strategy), outcome))
            folder.append_trial(trials[-1])
            screen.show(TrialEnded(trials[-1]))
    return _decided(action, scene, folder, screen, time.monotonic() - began_at_s, len(trials))


def _show_beat(screen: Screen, strategy: Strategy, phase: Phase) -> None:
    screen.show(ProbeBeat(strategy, phase))


def _decided(
    action: Choose | GiveUp, scene: Scene, folder: RunFolder, screen: Screen, decided_s: float, probe_count: int
) -> Choice:
    if isinstance(action, GiveUp):
        screen.show(GaveUp(action))
        folder.write_report(report_html(folder.record()))
        raise NothingFits
    choice = action.choice
    folder.write_ds_config(_deepspeed_config(scene, choice.strategy))
    folder.write_command(command_script(scene.hardware, Path(sys.executable).parent))
    folder.write_choice(choice)
    folder.write_report(report_html(folder.record()))
    screen.show(Chosen(choice, decided_s, probe_count))
    return choice


def _deepspeed_config(scene: Scene, strategy: Strategy) -> dict[str, object]:
    return deepspeed_config(strategy, scene.request, scene.shape, scene.hardware.kind)


def _spec(
    scene: Scene,
    profile: DataProfile,
    strategy: Strategy,
    trials: list[Trial],
    folder: RunFolder,
    scratch: Path,
    probe_timeout_s: float,
) -> ProbeSpec:
    number = len(trials) + 1
    has_saved = any(isinstance(t.outcome, Measured) and t.strategy.rung == strategy.rung for t in trials)
    return ProbeSpec(
        job=Job(
            request=scene.request,
            strategy=strategy,
            deepspeed_config=json.dumps(_deepspeed_config(scene, strategy)),
            kind=scene.hardware.kind,
            rank_count=scene.hardware.rank_count,
            devices=device_names(scene.hardware),
            memory_limit_bytes=scene.request.memory_limit_bytes,
        ),
        worst=(*_narrower(scene, profile), worst_shape(profile, strategy.micro_batch)),
        typical=typical_shapes(profile, strategy.micro_batch, TYPICAL_SHAPES),
        scratch_path=str(scratch / f"probe{number}"),
        log_path=str(folder.probe_log(strategy, number)),
        beat_timeout_s=probe_timeout_s,
        has_save=not has_saved,
    )


def _narrower(scene: Scene, profile: DataProfile) -> tuple[BatchShape, ...]:
    """On a CPU every width costs memory for its kernels, so that the widest batch alone is not the worst case."""
    return widths(profile, PAD_TO_MULTIPLE[DeviceKind.CPU]) if scene.hardware.kind is DeviceKind.CPU else ()


def _run(scene: Scene, choice: Choice, folder: RunFolder, screen: Screen, tools: Tools) -> TrainingEnded:
    files = TrainingFiles(
        request=folder.request,
        choice=folder.choice,
        deepspeed_config=folder.ds_config,
        checkpoints=folder.checkpoints,
        model=folder.model,
        reports=folder.logs,
        progress=folder.progress,
        beat=folder.beat,
    )
    resumed_from = scene.request.training.resume or folder.last_checkpoint
    screen.show(TrainingStarted(choice.strategy, resumed_from, str(folder.training_log)))
    result = tools.run_training(scene.hardware, files, folder.training_log, screen.show)
    rung = choice.strategy.rung
    if scene.request.training.merge and rung.method is Method.LORA:
        screen.show(Note("merging the adapter into the base model"))
        tools.merge(
            scene.hardware,
            base=scene.request.model,
            adapter=folder.model,
            out=folder.merged,
            dtype=rung.dtype,
            log_path=folder.logs / "merge.log",
        )
        result = replace(result, merged_path=str(folder.merged))
    folder.write_result(result)
    folder.write_report(report_html(folder.record()))
    return result


def _located(request: Request) -> Request:
    """The request with its local paths absolute, so that it means the same from every folder."""
    resume = request.training.resume
    return replace(
        request,
        model=_absolute(request.model),
        data=request.data and _absolute(request.data),
        eval_data=request.eval_data and _absolute(request.eval_data),
        training=replace(request.training, resume=resume and _absolute(resume)),
    )


def _absolute(name: str) -> str:
    """Of a path or a glob; a hub id stays as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() or has_magic(name) else name

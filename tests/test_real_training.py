"""The whole command on two CPU ranks with real DeepSpeed: probes of each kind, and trainings to their end."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.gradient_checkpointing import GradientCheckpointing
from autofit.domain.knobs.method import Method
from autofit.domain.knobs.offload import Offload
from autofit.domain.knobs.optimizer import BF16_MASTERS, Optimizer
from autofit.domain.knobs.quantization import Quantization
from autofit.domain.outcome import Measured, NotFinite, OutOfMemory, Phase
from autofit.domain.request import Generation, Lora, Request, Reward, Training
from autofit.domain.strategy import Rung, Strategy
from autofit.domain.task import Task
from autofit.domain.workload import BatchShape
from autofit.inputs.model_files import read_model_files
from autofit.planning.export.deepspeed_config import engine_config
from autofit.planning.memory.interval import HEADROOM
from autofit.probing.agent import Agent
from autofit.probing.protocol import Job, ProbeSpec
from autofit.report.outcome_text import verdict_text
from autofit.worker.training.epoch import EpochOrder
from tests.builders import make_request, make_rung
from tests.spread import with_matrix

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "examples/tiny-llama"
ANOTHER_JOB = {
    "RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "10.255.255.1", "MASTER_PORT": "1",
    "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "3", "PMI_SIZE": "4", "ACCELERATE_USE_FSDP": "true",
}  # fmt: skip
# A probe learns nothing, so that a learning rate that ruins the model does not end it.
REQUEST = make_request(MODEL, global_batch=8, lora=Lora(r=8), ranks=2, training=Training(learning_rate=1e30))
EVALUATED = replace(REQUEST, eval_fraction=0.1)
SHAPE = read_model_files(str(MODEL)).shape


def spec(rung: Rung, folder: Path, *, request: Request = REQUEST, memory_limit_bytes: int | None = None) -> ProbeSpec:
    strategy = Strategy(rung, micro_batch=2, gradient_accumulation=2)
    config = engine_config(strategy, request, SHAPE, DeviceKind.CPU)
    text = None if config is None else json.dumps(config)
    job = Job(request, strategy, text, DeviceKind.CPU, 2, memory_limit_bytes=memory_limit_bytes)
    shape = BatchShape(64, 63.5)
    return ProbeSpec(
        job, (shape,), (shape,), str(folder / "scratch"), str(folder / "probe.log"), 120.0, True, measure_s=0.1
    )


def rung(method: Method, stage: int, *, offload: Offload = Offload.NONE, checkpointing: bool = False) -> Rung:
    return make_rung(stage, method=method, offload=offload, gradient_checkpointing=GradientCheckpointing(checkpointing))


def quantized(quantization: Quantization, stage: int, **changed: Any) -> Rung:
    return replace(rung(Method.LORA, stage, **changed), quantization=quantization)


@pytest.mark.parametrize(
    "tried",
    with_matrix(
        [
            rung(Method.FULL, 0),
            rung(Method.FULL, 1),
            rung(Method.FULL, 3),
            rung(Method.LORA, 3, checkpointing=True),
            rung(Method.FULL, 2, offload=Offload.OPTIMIZER),
            rung(Method.FULL, 3, offload=Offload.ALL),
            quantized(Quantization.INT8, 3, checkpointing=True),
        ],
        [
            *(rung(Method.FULL, 2, checkpointing=True), rung(Method.LORA, 2), rung(Method.LORA, 0, checkpointing=True)),
            *(quantized(Quantization.INT8, 0, checkpointing=True), quantized(Quantization.INT8, 2)),
            *(quantized(Quantization.NF4, 0), quantized(Quantization.NF4, 1, checkpointing=True)),
            *(quantized(Quantization.NF4, 2, offload=Offload.OPTIMIZER), quantized(Quantization.NF4, 3)),
            quantized(Quantization.NF4, 3, checkpointing=True, offload=Offload.ALL),
        ],
    ),
    ids=str,
)
def test_a_rung_of_each_kind_trains_evaluates_and_saves(agent: Agent, tried: Rung, tmp_path: Path) -> None:
    phases: list[Phase] = []
    outcome = agent.probe(spec(tried, tmp_path, request=EVALUATED), phases.append)
    assert isinstance(outcome, Measured), outcome
    trained = {Phase.BUILD, Phase.INITIALIZE, Phase.FORWARD, Phase.BACKWARD, Phase.STEP}
    assert {*trained, Phase.EVALUATE, Phase.SAVE} <= set(phases)
    assert outcome.peak_device_bytes > outcome.base_bytes + 2 * SHAPE.parameter_count / 2
    assert outcome.tokens_per_s > 0


def test_a_probe_takes_what_the_training_is_told(agent: Agent, tmp_path: Path) -> None:
    """Workers that load data, a schedule that asks for an evaluation, a checkpointing that this rung does not have."""
    words = "--dataloader_num_workers 1 --eval_strategy epoch --load_best_model_at_end true --max_grad_norm 0.3 "
    words += "--lr_scheduler_type reduce_lr_on_plateau --warmup_ratio 0.5 --label_smoothing_factor 0.1 --eval_on_start"
    extra = (*words.split(), "--gradient_checkpointing_kwargs", '{"use_reentrant": false}')
    request = replace(EVALUATED, training=Training(extra_arguments=extra))
    outcome = agent.probe(spec(rung(Method.FULL, 2), tmp_path, request=request), lambda phase: None)
    assert isinstance(outcome, Measured), outcome


def test_lora_holds_less_than_all_parameters(agent: Agent, tmp_path: Path) -> None:
    peaks = []
    for number, method in enumerate((Method.LORA, Method.FULL)):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcome = agent.probe(spec(rung(method, 1), folder), lambda phase: None)
        assert isinstance(outcome, Measured)
        peaks.append(outcome.peak_device_bytes - outcome.base_bytes)
    # gradients (2P), fp32 weights and Adam's moments (12P over two ranks) are gone but for the adapter's
    assert peaks[1] - peaks[0] > 5 * SHAPE.parameter_count


@pytest.mark.parametrize("stage", [1, 3])
def test_a_probe_whose_steps_are_skipped_is_no_measurement(agent: Agent, stage: int, tmp_path: Path) -> None:
    """A norm that is a root of less than nothing: DeepSpeed makes no states of Adam then."""
    wide = tmp_path / "wide"
    shutil.copytree(MODEL, wide, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((wide / "config.json").read_text()) | {"rms_norm_eps": -1e9, "num_hidden_layers": 1}
    (wide / "config.json").write_text(json.dumps(config))
    told = spec(rung(Method.FULL, stage), tmp_path)
    job = replace(told.job, request=replace(told.job.request, model=str(wide)))
    outcome = agent.probe(replace(told, job=job), lambda phase: None)
    assert isinstance(outcome, NotFinite), outcome
    assert outcome.why.startswith("the gradients are not finite: the step is skipped")


@pytest.mark.parametrize("stage", [0, 3])
def test_an_update_in_the_backward_pass_is_measured_or_is_out_of_memory(
    agent: Agent, stage: int, tmp_path: Path
) -> None:
    """With a pass that only measures gradients, which is heard by nobody but takes its time."""
    tried = make_rung(stage, optimizer=Optimizer.LOMO, gradient_checkpointing=GradientCheckpointing.ON)
    request = replace(EVALUATED, training=Training(extra_arguments=("--max_grad_norm", "0.5")))
    phases: list[Phase] = []
    whole = agent.probe(spec(tried, tmp_path, request=request), phases.append)
    assert isinstance(whole, Measured), whole
    assert {Phase.BACKWARD, Phase.EVALUATE, Phase.SAVE} <= set(phases)
    assert whole.tokens_per_s * whole.step_s == pytest.approx(63.5 * 2 * 2 * 2)
    limit_bytes = whole.base_bytes + int(0.6 * (whole.peak_device_bytes - whole.base_bytes))
    squeezed = agent.probe(spec(tried, tmp_path, request=request, memory_limit_bytes=limit_bytes), lambda phase: None)
    assert isinstance(squeezed, OutOfMemory), squeezed


def test_one_rank_alone_runs_out_of_memory_and_the_others_are_ended(agent: Agent, tmp_path: Path) -> None:
    squeezed: list[int] = []

    def squeeze(phase: Phase) -> None:
        """Takes nearly all room to grow from one of the ranks, from outside, once it trains.

        A little is left: with none at all native code that checks nothing dies of SIGSEGV, which is a crash.
        """
        if phase is Phase.FORWARD and not squeezed:
            squeezed.append(max(_ranks_of(agent)))
            n_bytes = _data_bytes(squeezed[0]) + 24_000_000
            resource.prlimit(squeezed[0], resource.RLIMIT_DATA, (n_bytes, n_bytes))

    outcome = agent.probe(spec(rung(Method.FULL, 2), tmp_path), squeeze)
    assert isinstance(outcome, OutOfMemory), outcome
    assert "allocate" in outcome.message or "primitive" in outcome.message
    assert not _ranks_of(agent)
    log = (tmp_path / "probe.log").read_text()
    assert "can't allocate memory" in log or "could not create a primitive" in log


def test_a_generation_that_lacks_memory_is_named(agent: Agent, tmp_path: Path) -> None:
    """Nearly all room is taken from a rank, from outside, when it generates for the second time."""
    entries: list[Phase] = []

    def squeeze(phase: Phase) -> None:
        entries.append(phase)
        if entries[-2:] == [Phase.STEP, Phase.GENERATE]:
            rank = _first_rank_of(agent)
            n_bytes = _data_bytes(rank) + 4_000_000
            resource.prlimit(rank, resource.RLIMIT_DATA, (n_bytes, n_bytes))

    generation = Generation(4, 32, (Reward("rewards.py:unused"),))
    request = replace(REQUEST, task=Task.GRPO, global_batch=256, generation=generation)
    told = spec(rung(Method.FULL, 2), tmp_path, request=request)
    outcome = agent.probe(
        replace(told, job=replace(told.job, strategy=Strategy(told.job.strategy.rung, 2, 64))), squeeze
    )
    assert isinstance(outcome, OutOfMemory), outcome
    assert outcome.phase is Phase.GENERATE
    assert verdict_text(outcome).startswith("out of memory in the generation")


def test_a_reference_that_finds_no_room_is_named(agent: Agent, tmp_path: Path) -> None:
    """Its forward pass takes a second, a heartbeat before it a moment."""
    seen: list[Phase] = []

    def squeeze(phase: Phase) -> None:
        """Takes the room to grow from the rank that has come to its reference."""
        if phase is Phase.REFERENCE and phase not in seen:
            rank = _first_rank_of(agent)
            n_bytes = _data_bytes(rank) + 4_000_000
            resource.prlimit(rank, resource.RLIMIT_DATA, (n_bytes, n_bytes))
        seen.append(phase)

    long = BatchShape(512, 511.5)
    request = replace(REQUEST, task=Task.DPO, sequence_length=512)
    told = replace(spec(rung(Method.FULL, 2), tmp_path, request=request), worst=(long,), typical=(long,))
    outcome = agent.probe(told, squeeze)
    assert isinstance(outcome, OutOfMemory), outcome
    assert outcome.phase is Phase.REFERENCE
    assert Phase.BACKWARD not in seen


def test_without_an_engine_any_cap_below_the_peak_is_out_of_memory(agent: Agent, tmp_path: Path) -> None:
    phases = []
    whole = agent.probe(spec(rung(Method.FULL, 0), tmp_path), lambda phase: None)
    assert isinstance(whole, Measured), whole
    for share in (0.25, 0.8):
        limit_bytes = whole.base_bytes + int(share * (whole.peak_device_bytes - whole.base_bytes))
        outcome = agent.probe(spec(rung(Method.FULL, 0), tmp_path, memory_limit_bytes=limit_bytes), lambda phase: None)
        assert isinstance(outcome, OutOfMemory), outcome
        phases.append(outcome.phase)
    assert phases[0] is Phase.INITIALIZE  # DDP's buckets
    assert phases[1] is not Phase.INITIALIZE


def without_room(rung: Rung, phase: Phase | None = None) -> tuple[Rung, Phase | None]:
    """A rung, and where its probe ends; None where that hangs on how the allocator has grown."""
    return rung, phase


@pytest.mark.parametrize(
    ("tried", "phase"),
    with_matrix(
        [
            without_room(make_rung(2, optimizer=Optimizer.ADAMW_8BIT), Phase.STEP),  # whose update takes most
            without_room(quantized(Quantization.NF4, 3)),
            without_room(make_rung(0, gradient_checkpointing=GradientCheckpointing.SELECTIVE)),
        ],
        [
            *(without_room(make_rung(2, optimizer=one)) for one in (Optimizer.LION, Optimizer.SGD)),
            *(without_room(make_rung(1, optimizer=one)) for one in sorted(BF16_MASTERS)),
            without_room(make_rung(3, optimizer=Optimizer.ADALOMO)),
            without_room(quantized(Quantization.INT8, 2)),
            without_room(make_rung(0, gradient_checkpointing=GradientCheckpointing.EVERY_2)),
            without_room(rung(Method.FULL, 3, checkpointing=True)),
            without_room(make_rung(2, offload=Offload.OPTIMIZER, optimizer=Optimizer.LION)),
        ],
    ),
    ids=str,
)
def test_a_value_without_room_for_its_peak_is_out_of_memory(
    agent: Agent, tried: Rung, phase: Phase | None, tmp_path: Path
) -> None:
    whole = agent.probe(spec(tried, tmp_path), lambda phase: None)
    assert isinstance(whole, Measured), whole
    limit_bytes = whole.base_bytes + int(0.8 * (whole.peak_device_bytes - whole.base_bytes))
    outcome = agent.probe(spec(tried, tmp_path, memory_limit_bytes=limit_bytes), lambda phase: None)
    assert isinstance(outcome, OutOfMemory), outcome
    assert phase is None or outcome.phase is phase


def _ranks_of(agent: Agent) -> list[int]:
    """Ranks lead a session of their own, below the agent's fork server."""
    servers = _children(agent._process.pid)
    return [pid for server in servers for pid in _children(server) if os.getsid(pid) == pid]


def _first_rank_of(agent: Agent) -> int:
    """The one whose phases the agent tells: it is forked first."""
    return min(_ranks_of(agent))


def _children(parent: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended while we looked
        if int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


def _data_bytes(pid: int) -> int:
    match = re.search(r"VmData:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match.group(1)) * 1024


def autofit(*words: str) -> list[str]:
    fixed = ["--model", str(MODEL), "--seq", "128", "--data", str(ROOT / "examples/dialogues.jsonl")]
    return [sys.executable, "-m", "autofit", "train", *fixed, "--batch-size", "8", "--ranks", "2", *words]


def test_an_interrupted_training_goes_on_and_its_merged_model_is_base_plus_adapter(tmp_path: Path) -> None:
    """Also: the trials are not repeated, the checkpoint is used, and command.sh trains without autofit."""
    out = tmp_path / "run"
    words = ["--method", "lora", "--lora-r", "8", "--learning-rate", "1e-2", "--zero-stage", "2", "--micro-batch", "4"]
    words += ["--gradient-checkpointing", "off", "--max-steps", "8", "--save-steps", "4", "--merge"]
    words += ["--tolerance", "1%"]  # else so short a training starts without a probe
    command = autofit(*words, "--output-dir", str(out))

    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        if "saved step 4" in line and "saved step 4" not in said:
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGINT)  # impatient, and heard once
        said += line
    assert process.wait(120) == 130, said
    saved = max(int(path.name.partition("-")[2]) for path in (out / "checkpoints").glob("checkpoint-*"))
    assert 4 < saved < 8, said
    assert not (out / "model/adapter_config.json").exists()
    trials = (out / "trials.jsonl").read_text()

    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, _said(ended, out)
    assert f"checkpoint-{saved}" in ended.stdout
    assert (out / "trials.jsonl").read_text() == trials
    progress = [json.loads(line) for line in (out / "logs/progress.jsonl").read_text().splitlines()]
    # beside the steps it may be told that another process builds what this one needs
    assert next(entry["step"] for entry in progress if entry["type"] == "TrainingProgress") == saved
    result = json.loads((out / "result.json").read_text())
    assert result["step_count"] == 8
    assert result["last_loss"] < 7.7  # ln(2048) = 7.62 is where random weights begin, a little above

    _check_merged(out)
    _check_made_anew(command, out)
    _check_refused(out)
    rerun = subprocess.run([str(out / "command.sh"), "again"], capture_output=True, text=True, check=False)
    assert rerun.returncode == 0, rerun.stdout[-2000:] + rerun.stderr[-2000:]
    assert (out / "again/model/adapter_config.json").exists()


def test_the_one_long_row_that_comes_late_takes_no_more_than_its_probe_showed(tmp_path: Path) -> None:
    """In the last step, after five with rows of a thirtieth of its length, under a limit that its probe fits.

    Of so many tokens that activations are of a megabyte and more: smaller ones lie in the heap, whose gaps differ by
    5 % of the peak between two steps.
    """
    data = tmp_path / "d.jsonl"
    order = list(EpochOrder(48, 48, Training().seed, lambda: 0))
    rows = [{"text": "one two three four " * (180 if number == order[44] else 4)} for number in range(48)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--method", "full", "--zero-stage", "1", "--micro-batch", "4", "--gradient-checkpointing", "off"]
    words += ["--max-steps", "6", "--tolerance", "1%", "--data", str(data), "--seq", "1024"]
    words += ["--memory-limit", "1400MB"]  # under which the heap of a CPU rank gives back at once what is freed
    out = tmp_path / "run"
    ended = subprocess.run(autofit(*words, "--output-dir", str(out)), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, _said(ended, out)
    profile, result = (json.loads((out / name).read_text()) for name in ("data.json", "result.json"))
    assert 720 <= profile["longest_tokens"] < 1024
    probed = json.loads((out / "choice.json").read_text())["measured"]
    assert result["step_count"] == 6
    lines = map(json.loads, (out / "logs/progress.jsonl").read_text().splitlines())
    before_bytes = max(line["peak_device_bytes"] or 0 for line in lines if line.get("step", 6) < 6)
    assert before_bytes < 0.9 * probed["peak_device_bytes"]
    assert result["peak_device_bytes"] <= (1 + HEADROOM) * probed["peak_device_bytes"]


@pytest.mark.matrix
def test_an_interrupted_reward_model_goes_on_with_its_choice_and_scores(tmp_path: Path) -> None:
    """Its micro-batch is searched for; what is left is trained on by this task alone."""
    out = tmp_path / "run"
    words = ["--task", "reward", "--data", str(ROOT / "examples/preferences.jsonl"), "--tolerance", "1%"]
    words += ["--method", "full", "--zero-stage", "2", "--gradient-checkpointing", "off", "--learning-rate", "1e-3"]
    command = autofit(*words, "--max-steps", "8", "--save-steps", "2", "--output-dir", str(out))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        if "saved step 2" in line and "saved step 2" not in said:
            process.send_signal(signal.SIGINT)
        said += line
    assert process.wait(120) == 130, said
    trials = (out / "trials.jsonl").read_text()
    assert trials.count("Measured") > 0, said

    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, _said(ended, out)
    assert re.search(r"checkpoint-[3-7]\b", ended.stdout), ended.stdout
    assert (out / "trials.jsonl").read_text() == trials
    assert json.loads((out / "result.json").read_text())["step_count"] == 8
    config = json.loads((out / "model/config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]

    refused = [*autofit("--output-dir", str(tmp_path / "sft")), "--model", str(out / "model")]
    ended = subprocess.run(refused, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "train on with --task reward" in " ".join(ended.stderr.split())


def test_a_reward_model_without_room_for_its_peak_is_out_of_memory(agent: Agent, tmp_path: Path) -> None:
    request = replace(REQUEST, task=Task.REWARD)
    whole = agent.probe(spec(rung(Method.FULL, 2), tmp_path, request=request), lambda phase: None)
    assert isinstance(whole, Measured), whole
    limit_bytes = whole.base_bytes + int(0.8 * (whole.peak_device_bytes - whole.base_bytes))
    told = spec(rung(Method.FULL, 2), tmp_path, request=request, memory_limit_bytes=limit_bytes)
    assert isinstance(outcome := agent.probe(told, lambda phase: None), OutOfMemory), outcome


def test_without_an_engine_a_training_whose_rank_was_killed_goes_on_to_the_same_end(tmp_path: Path) -> None:
    """Beside its command.sh, which nothing disturbs, and which has no configuration of DeepSpeed's."""
    out = tmp_path / "run"
    words = ["--method", "full", "--zero-stage", "0", "--micro-batch", "2", "--gradient-checkpointing", "off"]
    words += ["--learning-rate", "1e-3", "--max-steps", "6", "--save-steps", "2"]
    command = autofit(*words, "--output-dir", str(out))
    _kill_a_rank_once_step_2_is_saved(command, out)

    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, _said(ended, out)
    assert re.search(r"from step|checkpoint-[24]", ended.stdout), ended.stdout
    rerun = subprocess.run([str(out / "command.sh")], capture_output=True, text=True, check=False)
    assert rerun.returncode == 0, rerun.stdout[-2000:] + rerun.stderr[-2000:]
    assert not (out / "ds_config.json").exists()
    losses, undisturbed = _losses(out / "logs/progress.jsonl"), _losses(out / "rerun/progress.jsonl")
    assert len(losses) >= 2
    assert losses == {step: undisturbed[step] for step in losses}
    assert (out / "model/model.safetensors").read_bytes() == (out / "rerun/model/model.safetensors").read_bytes()


@pytest.mark.matrix
def test_adapters_on_a_quantised_base_go_on_to_the_same_end_after_a_kill(tmp_path: Path) -> None:
    """Under ZeRO-3 with checkpointing, evaluated in between, beside its command.sh, which nothing disturbs; merged into
    the base in full precision."""
    out = tmp_path / "run"
    words = ["--quantize", "nf4", "--method", "lora", "--lora-r", "8", "--zero-stage", "3", "--micro-batch", "2"]
    words += ["--gradient-checkpointing", "on", "--learning-rate", "1e-2", "--max-steps", "6", "--save-steps", "2"]
    command = autofit(*words, "--eval-fraction", "0.05", "--merge", "--output-dir", str(out))
    command += ["--", "--eval_strategy", "steps", "--eval_steps", "2"]
    _kill_a_rank_once_step_2_is_saved(command, out)

    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, _said(ended, out)
    assert re.search(r"from step|checkpoint-[24]", ended.stdout), ended.stdout
    rerun = subprocess.run([str(out / "command.sh")], capture_output=True, text=True, check=False)
    assert rerun.returncode == 0, rerun.stdout[-2000:] + rerun.stderr[-2000:]
    losses, undisturbed = _losses(out / "logs/progress.jsonl"), _losses(out / "rerun/progress.jsonl")
    assert losses == {step: undisturbed[step] for step in losses}
    assert undisturbed[6] < undisturbed[1] - 0.5
    adapter = "model/adapter_model.safetensors"
    assert (out / adapter).read_bytes() == (out / "rerun" / adapter).read_bytes()
    _check_merged(out)


def _kill_a_rank_once_step_2_is_saved(command: list[str], out: Path) -> None:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        if "saved step 2" in line and "saved step 2" not in said:
            os.kill(json.loads((out / "logs/rank1-place.json").read_text())["process_id"], signal.SIGKILL)
        said += line
    assert process.wait(120) == 1, said
    assert "rank 1 was killed by SIGKILL" in said, said


def _losses(progress: Path) -> dict[int, float]:
    """The losses by step, each as it was first told."""
    entries = [json.loads(line) for line in progress.read_text().splitlines()]
    told = [entry for entry in entries if entry["type"] == "TrainingProgress" and entry["loss"] is not None]
    return {entry["step"]: entry["loss"] for entry in reversed(told)}


def _said(ended: subprocess.CompletedProcess[str], out: Path) -> str:
    """The end of what a command and its ranks said: the screen alone only names the log."""
    log = out / "logs/training.log"
    said = (ended.stdout, ended.stderr, log.read_text(errors="replace") if log.exists() else "no training.log")
    return "\n".join(text[-4000:] for text in said)


def _check_made_anew(command: list[str], out: Path) -> None:
    """The model, from the last checkpoint and not a step further, while nobody reads what is shown."""
    adapter = out / "model/adapter_model.safetensors"
    trained = adapter.read_bytes()
    shutil.rmtree(out / "model")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    assert any("is gone: it is made anew" in line for line in process.stdout)
    process.stdout.close()
    assert process.wait(200) == 0
    assert adapter.read_bytes() == trained
    assert json.loads((out / "result.json").read_text())["step_count"] == 8


def _check_refused(out: Path) -> None:
    """By what transformers and DeepSpeed have written into the checkpoint."""
    asked = ["--method", "full", "--zero-stage", "3", "--seed", "7", "--dtype", "fp32", "--learning-rate", "1e-3"]
    checkpoint = ["--resume", str(out / "checkpoints/checkpoint-8")]
    command = autofit(*asked, *checkpoint, "--output-dir", str(out.parent / "other"))
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    said = " ".join(ended.stderr.split())
    wrong = "--zero-stage (2, now 3), --dtype (bf16, now fp32), --method (lora, now full), --seed (42, now 7), "
    assert wrong + "--learning-rate (0.01, now 0.001). Ask for the same" in said


def _check_merged(out: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(out / "merged")
    inputs = tokenizer("Ravi: I forgot a plant.\n\nSummary:\n", return_tensors="pt")
    with torch.no_grad():
        before = base(**inputs).logits.float()
        adapted = PeftModel.from_pretrained(base, str(out / "model"))(**inputs).logits.float()
        model = AutoModelForCausalLM.from_pretrained(out / "merged", dtype=torch.bfloat16)
        merged = model(**inputs).logits.float()
    change = (adapted - before).abs().max()
    assert change > 0.1, "the adapter changed nothing: the comparison below would prove nothing"
    assert (merged - adapted).abs().max() < 0.15 * change  # bf16 weights round the sum once more
    text = model.generate(**inputs, max_new_tokens=5)
    assert text.shape[1] == inputs["input_ids"].shape[1] + 5


def test_all_parameters_under_zero_3_are_saved_whole(tmp_path: Path) -> None:
    """Every parameter comes back from its parts, and has moved: within a job whose launcher has left its variables."""
    import torch
    from transformers import AutoModelForCausalLM

    out = tmp_path / "run"
    words = ["--method", "full", "--zero-stage", "3", "--micro-batch", "2", "--max-steps", "3"]
    words += ["--gradient-checkpointing", "on", "--learning-rate", "1e-3", "--eval-fraction", "0.1"]
    extra = ["--eval_strategy", "epoch", "--load_best_model_at_end", "true", "--max_grad_norm", "0.3"]
    ended = subprocess.run(
        [*autofit(*words, "--output-dir", str(out)), "--json", "--", *extra],
        env={**os.environ, **ANOTHER_JOB},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, _said(ended, out)
    assert json.loads(ended.stdout)["choice"]["strategy"]["rung"]["zero_stage"] == 3
    assert json.loads((out / "ds_config.json").read_text())["gradient_clipping"] == 0.3
    trained = AutoModelForCausalLM.from_pretrained(out / "model", dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    assert sum(p.numel() for p in trained.parameters()) == SHAPE.parameter_count
    moved = [(a - b).abs().max() for a, b in zip(trained.parameters(), base.parameters(), strict=True)]
    assert min(moved) > 0

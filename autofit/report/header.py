"""The first lines of a run: machine, model, request."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import PurePath

from autofit.domain.hardware import DeviceKind, Hardware, Link
from autofit.domain.model import ModelShape
from autofit.domain.request import Request, Reward, Training
from autofit.domain.task import Task
from autofit.domain.units import format_bytes, format_count
from autofit.domain.workload import DataProfile, Learned
from autofit.planning.data.step_count import prompts_per_step

_LEFT_BY_A_RUN = ("model", "merged")
_EXAMPLES = {"messages": "conversations", "sharegpt": "conversations", "text": "texts"}
_EXAMPLES_OF_TASKS = {
    Learned.PREFERENCES: "preferences",
    Learned.JUDGEMENTS: "judged answers",
    Learned.REWARDS: "prompts",
}


def machine_text(hardware: Hardware) -> str:
    """The machine in one line: `8 × A100-SXM4-80GB, 79.2 GB free each, NVLink · 1.8 TB host memory`."""
    host = hardware.nodes[0].host
    per_node = " a node" if len(hardware.nodes) > 1 else ""
    return f"{_devices(hardware)} · {format_bytes(host.memory_total_bytes)} host memory{per_node}"


def _devices(hardware: Hardware) -> str:
    if hardware.kind is DeviceKind.CPU:
        count = hardware.rank_count
        return f"{count} CPU rank{'s' if count > 1 else ''}, {_free(hardware)}"
    names = Counter(device.name.removeprefix("NVIDIA ") for device in hardware.devices)
    groups = " + ".join(f"{count} × {name}" for name, count in names.items())
    nodes = f" on {len(hardware.nodes)} nodes" if len(hardware.nodes) > 1 else ""
    return ", ".join([groups + nodes, _free(hardware), *_links(hardware)])


def _free(hardware: Hardware) -> str:
    word = "allowed" if hardware.memory_limit_bytes == hardware.device_memory_bytes else "free"
    each = " each" if hardware.rank_count > 1 else ""
    return f"{format_bytes(hardware.device_memory_bytes)} {word}{each}"


def _links(hardware: Hardware) -> list[str]:
    known = {node.link for node in hardware.nodes if len(node.devices) > 1} - {Link.UNKNOWN}
    return [" and ".join(sorted(link.value for link in known))] if known else []


def model_text(shape: ModelShape) -> str:
    """The model in one line: `Llama-2-13B, 13.0 B parameters, 40 layers`; a count by formula has a tilde."""
    about = "" if shape.is_counted_exactly else "~"
    return f"{model_name(shape)}, {about}{format_count(shape.parameter_count)} parameters, {shape.layer_count} layers"


def model_name(shape: ModelShape) -> str:
    """The model's name: of one that lies in a folder whose whole path is known, the folder's; with the run's before it
    where a run has left it, for it is called like any other."""
    path = PurePath(shape.name)
    if not path.is_absolute():
        return shape.name
    return _end_of(path)


def _end_of(path: PurePath) -> str:
    return str(PurePath(*path.parts[-2:])) if path.name in _LEFT_BY_A_RUN else path.name


def request_text(request: Request, profile: DataProfile | None) -> str:
    """The request in one line: `8,412 conversations · 2,048 tokens · global batch 32 · 3 epochs`."""
    parts = [_examples(profile)] if profile is not None else []
    parts += [f"{request.sequence_length:,} tokens", batch_text(request)]
    return " · ".join([*parts, *([length_text(request.training)] if request.training.epochs else [])])


def task_text(request: Request) -> str:
    """What is trained for, and by what answers are rewarded: `group relative policy optimization, rewarded by
    2-reward/merged=0.5 and rewards.py:brief`; empty for supervised fine-tuning, which goes without saying."""
    if request.task is Task.SFT:
        return ""
    rewards = [_reward_text(reward) for reward in request.generation.rewards]
    return request.task.traits.text + (f", rewarded by {' and '.join(rewards)}" if rewards else "")


def _reward_text(reward: Reward) -> str:
    """A reward by the end of its path."""
    path = PurePath(reward.source)
    if not path.is_absolute():
        return str(reward)
    return str(replace(reward, source=_end_of(path)))


def batch_text(request: Request) -> str:
    """The rows of a step, `global batch 32`; of answers, `global batch 32 (8 prompts, 4 answers of up to 512 tokens to
    each)`."""
    text = f"global batch {request.global_batch}"
    if not request.task.traits.generates:
        return text
    prompts, answers = prompts_per_step(request), request.generation.count
    noun = "prompt" if prompts == 1 else "prompts"
    return f"{text} ({prompts:,} {noun}, {answers} answers of up to {request.completion_tokens:,} tokens to each)"


def _examples(profile: DataProfile) -> str:
    by_format = _EXAMPLES.get(profile.data_format.lower(), "examples")
    name = by_format if profile.learned is None else _EXAMPLES_OF_TASKS.get(profile.learned, by_format)
    return f"{profile.example_count:,} {name}"


def length_text(training: Training) -> str:
    """The length of a training: `3 epochs` or `200 steps`."""
    if training.max_steps is not None:
        return f"{training.max_steps:,} steps"
    return f"{training.epochs:g} epoch{'' if training.epochs == 1 else 's'}"

"""The command line of the full run: DeepSpeed's own launcher with autofit's training module."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from autofit.domain.hardware import DeviceKind, Hardware
from autofit.probing.environment import CPU_ALLOCATOR


@dataclass(frozen=True)
class TrainingFiles:
    """What the full run reads and writes; the run folder's owner names them."""

    request: Path
    choice: Path
    deepspeed_config: Path
    checkpoints: Path
    model: Path
    reports: Path
    progress: Path
    beat: Path  # touched by every rank as it goes


def launcher_arguments(hardware: Hardware, *, master_port: int | None) -> list[str]:
    """What follows the word `deepspeed` up to the training module.

    The hostfile is named so that one that lies at DeepSpeed's default place does not widen a local run.
    """
    port = ["--master_port", str(master_port)] if master_port is not None else []
    local = ["--hostfile", "/dev/null", "--master_addr", "127.0.0.1", *port]
    return [*local, "--num_gpus", str(hardware.rank_count), "--module", "autofit.worker.train"]


def training_arguments(hardware: Hardware, files: TrainingFiles) -> list[str]:
    """What follows the training module."""
    arguments = ["--request", files.request, "--choice", files.choice, "--deepspeed_config", files.deepspeed_config]
    arguments += ["--device-kind", hardware.kind.value]
    if devices := device_names(hardware):
        arguments += ["--devices", ",".join(devices)]
    arguments += ["--checkpoints", files.checkpoints, "--model-out", files.model]
    arguments += ["--reports", files.reports, "--progress", files.progress, "--beat", files.beat]
    return [str(argument) for argument in arguments]


def device_names(hardware: Hardware) -> tuple[str, ...]:
    """The GPUs as CUDA_VISIBLE_DEVICES names them; empty on a CPU."""
    return tuple(device.visible_name for device in hardware.devices if device.kind is DeviceKind.CUDA)


def command_script(hardware: Hardware, tools_path: Path) -> str:
    """A shell script for the run folder that trains again without autofit's search.

    `tools_path` is the folder of the `deepspeed` that ran the training.
    """
    files = TrainingFiles(
        request=Path("request.json"),
        choice=Path("choice.json"),
        deepspeed_config=Path("ds_config.json"),
        checkpoints=Path("$out/checkpoints"),
        model=Path("$out/model"),
        reports=Path("$out"),
        progress=Path("$out/progress.jsonl"),
        beat=Path("$out/beat"),
    )
    words = ["deepspeed", *launcher_arguments(hardware, master_port=None), *training_arguments(hardware, files)]
    command = " ".join(f'"{word}"' if "$out" in word else shlex.quote(word) for word in words)
    variables = {"DS_ACCELERATOR": hardware.kind.value} | (CPU_ALLOCATOR if hardware.kind is DeviceKind.CPU else {})
    exports = " ".join(f"{name}={value}" for name, value in variables.items())
    return f"""#!/bin/sh
# Trains with the configuration that autofit chose: plain DeepSpeed, no search.
# Writes into the folder named by the first argument (default: rerun, beside this script).
set -eu
cd "$(dirname "$0")"
out=${{1:-rerun}}
mkdir -p "$out"
export PATH={shlex.quote(str(tools_path))}:"$PATH"
export {exports}
exec {command.replace(" --", " " + chr(92) + chr(10) + "  --")}
"""

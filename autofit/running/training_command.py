"""The command line of the full run: DeepSpeed's own launcher with autofit's training module."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autofit.domain.hardware import DeviceKind, Hardware
from autofit.process.pinned_allocator import exact_pins_script
from autofit.process.python import CPU_ALLOCATOR, SAFE_PATH


@dataclass(frozen=True)
class TrainingFiles:
    """What the full run reads and writes; the run folder's owner names them."""

    request: Path
    choice: Path
    deepspeed_config: Path | None  # None: there is no engine of DeepSpeed's
    checkpoints: Path
    model: Path
    reports: Path
    progress: Path


def launcher_arguments(hardware: Hardware, *, master_port: int | None) -> list[str]:
    """What DeepSpeed's launcher is given, up to the training module.

    The hostfile is named so that one that lies at DeepSpeed's default place does not widen a local run.
    """
    port = ["--master_port", str(master_port)] if master_port is not None else []
    local = ["--hostfile", "/dev/null", "--master_addr", "127.0.0.1", *port]
    return [*local, "--num_gpus", str(hardware.rank_count), "--module", "autofit.worker.train"]


def training_arguments(hardware: Hardware, files: TrainingFiles) -> list[str]:
    """The words that follow the training module."""
    arguments: list[str | Path] = ["--request", files.request, "--choice", files.choice]
    if files.deepspeed_config is not None:
        arguments += ["--deepspeed_config", files.deepspeed_config]
    arguments += ["--device-kind", hardware.kind.value]
    if hardware.kind is DeviceKind.CPU:
        arguments += ["--device-memory", str(hardware.device_memory_bytes)]
    if devices := device_names(hardware):
        arguments += ["--devices", ",".join(devices)]
    arguments += ["--checkpoints", files.checkpoints, "--model-out", files.model]
    arguments += ["--reports", files.reports, "--progress", files.progress]
    return [str(argument) for argument in arguments]


def device_names(hardware: Hardware) -> tuple[str, ...]:
    """The GPUs as CUDA_VISIBLE_DEVICES names them; empty on a CPU."""
    return tuple(device.visible_name for device in hardware.devices if device.kind is DeviceKind.CUDA)


def command_script(
    hardware: Hardware,
    launcher: Sequence[str],
    *,
    package_folders: str = "",
    has_engine: bool = True,
    has_offload: bool = False,
) -> str:
    """A shell script for the run folder that trains again without autofit's search.

    `launcher` is the command of DeepSpeed's launcher: a Python, with the programs of its environment beside it, and
    its module. `package_folders` is that Python's PYTHONPATH. `has_engine`: DeepSpeed's engine trains, by the
    folder's ds_config.json; `has_offload`: host memory is pinned.
    """
    files = TrainingFiles(
        request=Path("request.json"),
        choice=Path("choice.json"),
        deepspeed_config=Path("ds_config.json") if has_engine else None,
        checkpoints=Path("$out/checkpoints"),
        model=Path("$out/model"),
        reports=Path("$out"),
        progress=Path("$out/progress.jsonl"),
    )
    words = [*launcher_arguments(hardware, master_port=None), *training_arguments(hardware, files)]
    variables = {"DS_ACCELERATOR": hardware.kind.value} | SAFE_PATH
    variables |= CPU_ALLOCATOR if hardware.kind is DeviceKind.CPU else {}
    if package_folders:
        variables["PYTHONPATH"] = package_folders
    pins = exact_pins_script() if has_offload and hardware.kind is not DeviceKind.CPU else ""
    exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    return f"""#!/bin/sh
# Trains with the configuration that autofit chose: plain DeepSpeed, no search.
# Writes into the folder named by the first argument (default: rerun, beside this script).
set -eu
CDPATH= cd -- "$(dirname -- "$0")"
out=${{1:-rerun}}
case $out in -*) out=$PWD/$out ;; esac
mkdir -p "$out"
export PATH={shlex.quote(str(Path(launcher[0]).parent))}:"$PATH"
export {exports}
{pins}exec {shlex.join(launcher)}{"".join(_script_words(words))}
"""


def _script_words(words: Iterable[str]) -> Iterable[str]:
    """Quotes the words for a shell, each option on a line of its own."""
    for word in words:
        yield " \\\n  " if word.startswith("--") else " "
        yield f'"{word}"' if "$out" in word else shlex.quote(word)

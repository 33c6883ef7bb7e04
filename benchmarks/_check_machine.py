"""What is installed and which devices there are: nothing here imports torch but to ask for its build."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from _check import Say

from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind, Hardware
from autofit.domain.units import format_bytes
from autofit.hardware.machine import detect
from autofit.hardware.nvml import VendorNvml
from autofit.hardware.toolchain import inspect_toolchain

_IMPORTED = ("pydantic", "hjson", "msgpack", "einops", "datasets", "trl", "peft", "deepspeed")


def machine(kind: DeviceKind, say: Say) -> None:
    for finding in inspect_toolchain(cuda_home=os.environ.get("CUDA_HOME")):
        if finding.is_usable:
            say.tell(f"{finding.name} {finding.version or ''}".strip())
        elif not finding.is_optional:
            wanted = f", {finding.least} or newer is needed" if finding.least else ""
            say(False, f"{finding.name} {finding.version or 'is missing'}{wanted}", finding.how_to_get)
    for name in _IMPORTED:
        ended = _python(f"import {name}")
        if ended.returncode != 0:
            say(False, f"{name} cannot be imported: {ended.stderr.strip().splitlines()[-1]}", f"pip install {name}")
    built = _python(
        "import torch; print(torch.__version__, 'cuda', torch.version.cuda, 'cudnn', torch.backends.cudnn.version(), "
        "'nccl', torch.cuda.nccl.version() if torch.cuda.is_available() else None, torch.cuda.is_available())"
    )
    sees_gpu = built.stdout.strip().endswith("True")
    advice = "install a torch that was built for this driver's CUDA (nvidia-smi names the newest that it takes)"
    say(sees_gpu or kind is DeviceKind.CPU, f"torch {built.stdout.strip()}", advice)


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def visible_devices(kind: DeviceKind, say: Say) -> None:
    """CUDA_VISIBLE_DEVICES in all its forms, as detection takes it."""
    gpus = VendorNvml().read().gpus
    look = partial(detect, ranks=None, memory_limit_bytes=None, disk_path=Path())
    on_gpu: list[str | None] = [None, "0", "0,-1"] + ([gpus[0].uuid, gpus[0].uuid[:14]] if gpus else [])
    expected = dict.fromkeys(on_gpu, DeviceKind.CUDA if gpus else DeviceKind.CPU)
    for form, wanted in (expected | {"": DeviceKind.CPU, "-1": DeviceKind.CPU}).items():
        found = look(visible_devices=form)
        say(found.kind is wanted, f"{form!r} shows {found.summary}", f"it should be {wanted.value}: report it")
    for form in ("7", "NoDevFiles", "0,0") if len(gpus) == 1 else ():
        say(_is_refused(partial(look, visible_devices=form)), f"{form!r} is refused", "it is accepted: report it")
    if gpus:
        device = look(visible_devices=None).devices[0]
        free = f"{format_bytes(device.memory_free_bytes)} of {format_bytes(device.memory_total_bytes)} free"
        say.tell(
            f"{device.name}: {free}, capability {device.compute_capability}, table: {device.sku}",
            memory_total_bytes=device.memory_total_bytes,
            memory_free_bytes=device.memory_free_bytes,
        )


def _is_refused(look: Callable[[], Hardware]) -> bool:
    try:
        look()
    except UsageError:
        return True
    return False

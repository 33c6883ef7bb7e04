"""This machine as a run would see it."""

from __future__ import annotations

import os
from pathlib import Path

from autofit.domain.hardware import Hardware
from autofit.hardware.machine import detect


def look(disk_path: Path) -> Hardware:
    """All visible devices; `disk_path` is where a run would write."""
    return detect(
        ranks=None,
        memory_limit_bytes=None,
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
        disk_path=disk_path,
    )

"""The installed DeepSpeed's launcher without the rest of DeepSpeed: what it does on several nodes, but no torch."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

_ACCELERATOR = """
class Accelerator:
    def visible_devices_envs(self): return ["CUDA_VISIBLE_DEVICES"]
    def set_visible_devices_envs(self, environment, devices): pass
    def export_envs(self): return ["NCCL"]
    def device_name(self): return "cpu"
def get_accelerator(): return Accelerator()
"""
_UTILS = """
import logging
logger = logging.getLogger()
get_numactl_cmd = None
def set_log_level_from_string(level): pass
"""


def write_light_deepspeed(folder: Path) -> None:
    """A package `deepspeed` in `folder`, to be put on PYTHONPATH."""
    spec = find_spec("deepspeed")
    assert spec is not None
    assert spec.origin is not None
    real, light = Path(spec.origin).parent, folder / "deepspeed"
    light.mkdir()
    for name in ("launcher", "constants.py"):
        (light / name).symlink_to(real / name)
    (light / "__init__.py").touch()
    (light / "accelerator.py").write_text(_ACCELERATOR)
    (light / "utils.py").write_text(_UTILS)
    (light / "autotuning.py").write_text("Autotuner = None\n")

"""What the fork server imports, on a machine that says it has a GPU."""

from __future__ import annotations

import subprocess
import sys

_IMPORT_ALL = """
import importlib
import torch

def initialize():
    raise SystemExit("CUDA is initialized")

torch.cuda._lazy_init = initialize
torch.cuda.is_available, torch.cuda.device_count = (lambda: True), (lambda: 2)
torch._C._cuda_getCurrentRawStream = lambda device: 0  # a build for CPUs lacks it

from autofit.worker.agent.fork_server import PRELOAD

for module in PRELOAD:
    importlib.import_module(module)
"""


def test_no_import_initializes_cuda_which_no_fork_could_use_any_more() -> None:
    """bitsandbytes asks for capabilities, and PEFT imports it."""
    ended = subprocess.run([sys.executable, "-c", _IMPORT_ALL], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr[-3000:]

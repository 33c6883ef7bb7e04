"""The CPU's meter against memory that a child process really takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from autofit.hardware.nvml import VendorNvml

MEASURE = """
import numpy
from autofit.worker.rank.memory_meter import CpuMeter
meter = CpuMeter()
block = numpy.ones(200_000_000, dtype=numpy.uint8)
meter.mark()
del block
small = numpy.ones(20_000_000, dtype=numpy.uint8)
print(meter.peak_device_bytes() - meter.base_bytes)
"""

CUDA = """
import os
import torch
os.environ["LOCAL_RANK"] = "0"
from autofit.worker.rank.memory_meter import CudaMeter
meter = CudaMeter()
block = torch.ones(200_000_000, dtype=torch.uint8, device="cuda")
del block
print(meter.peak_allocated_bytes(), meter.peak_device_bytes() - meter.base_bytes, meter.base_bytes)
"""

CAP = """
import numpy
from autofit.worker.rank.memory_meter import CpuMeter
meter = CpuMeter()
meter.cap(meter.base_bytes + 300_000_000)
first = numpy.ones(250_000_000, dtype=numpy.uint8)
try:
    second = numpy.ones(250_000_000, dtype=numpy.uint8)
except MemoryError:
    print("out of memory")
del first
third = numpy.ones(250_000_000, dtype=numpy.uint8)
print("goes on")
"""


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_peak_outlives_the_phase_that_it_was_reached_in() -> None:
    assert 195_000_000 < int(run(MEASURE)) < 215_000_000


def test_the_cap_stops_a_real_allocation_and_the_process_goes_on() -> None:
    assert run(CAP).split("\n")[:2] == ["out of memory", "goes on"]


@pytest.mark.gpu
@pytest.mark.skipif(not VendorNvml().read().gpus, reason="needs an NVIDIA GPU")
def test_on_a_gpu_what_tensors_held_is_told_beside_what_was_taken_for_them() -> None:
    allocated, reserved, base = map(int, run(CUDA).split())
    assert 200_000_000 <= allocated <= 200_001_024
    assert allocated <= reserved < allocated + 32 * 2**20
    assert base > 0

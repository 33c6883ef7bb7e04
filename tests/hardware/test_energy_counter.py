"""Whether the energy of the devices here can be counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind
from autofit.hardware.energy_counter import check_counted
from autofit.hardware.nvml import VendorNvml
from tests.builders import make_hardware
from tests.hardware.fake_nvml import FakeGpu, FakeNvml


def test_gpus_that_count_will_do() -> None:
    nvml = VendorNvml(FakeNvml([FakeGpu("A100", f"GPU-{i}", 81920) for i in range(2)]))

    check_counted(make_hardware(2, DeviceKind.CUDA), nvml=nvml)


def test_a_gpu_that_does_not_count_is_named() -> None:
    gpus = [FakeGpu("A100", "GPU-0", 81920), FakeGpu("P100", "GPU-1", 16384, energy_mj=None)]

    with pytest.raises(UsageError, match=r"energy needs a counter, and the driver has none of GPU 1 \(P100\): use"):
        check_counted(make_hardware(2, DeviceKind.CUDA, name="P100"), nvml=VendorNvml(FakeNvml(gpus)))


def test_a_host_with_a_counter_will_do(tmp_path: Path) -> None:
    zone(tmp_path).write_text("12345\n")

    check_counted(make_hardware(2, DeviceKind.CPU), zones=tmp_path)


def test_a_host_without_one_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"needs a counter, and there is none of this host's processors in {tmp_path}"):
        check_counted(make_hardware(2, DeviceKind.CPU), zones=tmp_path)


def test_a_counter_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = zone(tmp_path)
    path.mkdir()  # who runs the tests may be allowed to read everything, but not a folder

    with pytest.raises(UsageError, match=rf"{path} \(RAPL\) cannot be read \(Is a directory; "):
        check_counted(make_hardware(2, DeviceKind.CPU), zones=tmp_path)


def zone(folder: Path) -> Path:
    (folder / "intel-rapl:0").mkdir()
    return folder / "intel-rapl:0" / "energy_uj"

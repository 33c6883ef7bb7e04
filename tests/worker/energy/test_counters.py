"""Counters of the hardware with scripted answers: what they count, and what is not measurable."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from autofit.worker.energy.counter import EnergyCounter, NotMeasurable
from autofit.worker.energy.nvml_counter import NvmlCounter
from autofit.worker.energy.rapl_counter import RaplCounter
from autofit.worker.energy.zeus_counter import ZeusCounter
from tests.hardware.fake_nvml import FakeNvml, a100_mig, a100_nvswitch, v100_cube_mesh

SLICE = "MIG-e1000000-1111-2222-3333-444444444444"


class FakeZeus:
    """Answers to the names of `zeus.device.get_gpus()` that are used; places are those among the visible devices."""

    def __init__(self, vendor: FakeNvml, visible: tuple[int, ...]) -> None:
        self._gpus = [vendor.gpus[index] for index in visible]

    def supports_get_total_energy_consumption(self, place: int) -> bool:
        return self._gpus[place].energy_mj is not None

    def get_total_energy_consumption(self, place: int) -> int:
        if self._gpus[place].is_lost:
            raise sys.modules["zeus.device.exception"].ZeusBaseGPUError("lost")
        return self._gpus[place].energy_mj or 0


@pytest.fixture
def zeus(monkeypatch: pytest.MonkeyPatch) -> None:
    error = type("ZeusBaseGPUError", (Exception,), {})
    for name in ("zeus", "zeus.device"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "zeus.device.exception", SimpleNamespace(ZeusBaseGPUError=error))  # type: ignore[arg-type]


def made(kind: str, vendor: FakeNvml) -> EnergyCounter:
    if kind == "nvml":
        return NvmlCounter("5", vendor)
    return ZeusCounter(1, vendor.gpus[5].uuid, is_whole_device=False, devices=FakeZeus(vendor, (2, 5)))


@pytest.mark.usefixtures("zeus")
@pytest.mark.parametrize("kind", ["nvml", "zeus"])
def test_a_device_counts_its_joules(kind: str) -> None:
    gpus = a100_nvswitch()
    gpus.gpus[5].energy_mj = 5_000_000
    counter = made(kind, gpus)
    gpus.gpus[5].energy_mj = 5_630_500
    assert counter.read_j() == 5630.5
    assert (counter.name, counter.is_whole_device) == (gpus.gpus[5].uuid, False)
    gpus.gpus[5].is_lost = True
    with pytest.raises(NotMeasurable):
        counter.read_j()


@pytest.mark.usefixtures("zeus")
@pytest.mark.parametrize("kind", ["nvml", "zeus"])
def test_a_device_without_a_counter_is_not_measurable(kind: str) -> None:
    """Before Volta."""
    gpus = v100_cube_mesh()
    gpus.gpus[5].energy_mj = None
    with pytest.raises(NotMeasurable):
        made(kind, gpus)


def test_a_slice_is_counted_with_its_whole_device() -> None:
    slices = a100_mig()
    slices.gpus[0].energy_mj = 1000
    counter = NvmlCounter(SLICE, slices)
    assert (counter.name, counter.is_whole_device, counter.is_slice) == (slices.gpus[0].uuid, True, True)
    assert counter.read_j() == 1.0


def test_a_device_that_others_use_is_counted_with_what_they_do() -> None:
    gpus = a100_nvswitch()
    gpus.gpus[0].pids, gpus.gpus[0].energy_mj = [11, 12], 1
    assert NvmlCounter("0", gpus).is_whole_device


def test_a_driver_that_does_not_answer_counts_nothing() -> None:
    import pynvml

    with pytest.raises(NotMeasurable):
        NvmlCounter("0", FakeNvml(init_error=pynvml.NVML_ERROR_DRIVER_NOT_LOADED))


def zone(folder: Path, name: str, energy_uj: int, range_uj: int = 10_000_000) -> Path:
    folder.mkdir(parents=True)
    for file, value in (("name", name), ("energy_uj", str(energy_uj)), ("max_energy_range_uj", str(range_uj))):
        (folder / file).write_text(value + "\n")
    return folder


def test_a_host_counts_packages_and_memory_once_and_goes_on_where_they_begin_anew(tmp_path: Path) -> None:
    package = zone(tmp_path / "intel-rapl:0", "package-0", 9_000_000)
    zone(tmp_path / "intel-rapl:0:0", "core", 8_000_000)  # within the package
    zone(tmp_path / "intel-rapl:0:1", "dram", 500_000)
    zone(tmp_path / "intel-rapl:1", "package-1", 1_000_000)
    counter = RaplCounter(tmp_path)
    assert counter.read_j() == 10.5
    (package / "energy_uj").write_text("2000000")
    assert counter.read_j() == 13.5
    assert counter.is_whole_device


@pytest.mark.parametrize("is_there", [False, True])
def test_a_host_whose_counters_are_not_there_or_not_for_us_is_not_measurable(tmp_path: Path, is_there: bool) -> None:
    if is_there:
        (zone(tmp_path / "intel-rapl:0", "package-0", 1) / "energy_uj").unlink()
    with pytest.raises(NotMeasurable):
        RaplCounter(tmp_path)

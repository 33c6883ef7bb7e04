from pathlib import Path

import psutil
import pynvml
import pytest

from autofit.domain.codec import decode, encode
from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind, Hardware, Link
from autofit.hardware import machine
from autofit.hardware.nvml import VendorNvml
from tests.hardware.fake_nvml import FakeNvml, a100_mig, a100_nvswitch, h200, no_driver, rtx3090_pcie, v100_cube_mesh

GB = 10**9


@pytest.fixture
def detect(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "proc/cpuinfo").write_text("model name\t: AMD EPYC 7742 64-Core Processor\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/memory.max").write_text(str(GB // 10))  # less than any machine that runs this has
    (tmp_path / "sys/fs/cgroup/memory.current").write_text(str(GB // 50))

    def call(fake, ranks=None, memory_limit_bytes=None, visible_devices=None) -> Hardware:
        return machine.detect(
            ranks=ranks,
            memory_limit_bytes=memory_limit_bytes,
            visible_devices=visible_devices,
            disk_path=Path(tmp_path / "run"),
            nvml=VendorNvml(fake),
            root=tmp_path,
        )

    return call


@pytest.fixture
def four_gpus(monkeypatch):
    monkeypatch.setattr(machine, "VendorNvml", lambda: VendorNvml(rtx3090_pcie()))


@pytest.mark.parametrize(
    ("environment", "asked", "indices"),
    [
        ({}, {}, (0, 1, 2, 3)),
        ({"CUDA_VISIBLE_DEVICES": "3,1"}, {}, (3, 1)),
        ({"CUDA_VISIBLE_DEVICES": "3,1"}, {"ranks": 1}, (3,)),
        ({"CUDA_VISIBLE_DEVICES": "3"}, {"slots": (2, 0), "ranks": 2}, (2, 0)),  # what the launcher gives counts
        ({"DS_ACCELERATOR": "cuda"}, {}, (0, 1, 2, 3)),
    ],
)
def test_the_machine_here_is_what_its_environment_shows(four_gpus, tmp_path, environment, asked, indices):
    hardware = machine.detect_here(tmp_path, environment=environment, memory_limit_bytes=8 * GB, **asked)
    assert hardware.kind is DeviceKind.CUDA
    assert tuple(device.index for device in hardware.devices) == indices
    assert (hardware.memory_limit_bytes, hardware.device_memory_bytes) == (8 * GB, 8 * GB)


@pytest.mark.parametrize("asked", [{}, {"slots": (0, 1, 2)}])
def test_an_accelerator_that_is_told_to_be_the_cpu_leaves_the_gpus_alone(four_gpus, tmp_path, asked):
    hardware = machine.detect_here(tmp_path, environment={"DS_ACCELERATOR": "cpu"}, ranks=3, **asked)
    assert (hardware.kind, hardware.rank_count) == (DeviceKind.CPU, 3)


@pytest.mark.parametrize(
    ("fake", "count", "sku", "link", "capability"),
    [
        (a100_nvswitch(), 8, "A100-SXM4-80GB", Link.NVLINK, (8, 0)),
        (v100_cube_mesh(), 8, "V100-SXM2-32GB", Link.NVLINK, (7, 0)),
        (rtx3090_pcie(), 4, "RTX-3090", Link.PCIE, (8, 6)),
        (h200(), 1, "H200-SXM-141GB", Link.UNKNOWN, (9, 0)),
    ],
    ids=["a100", "v100", "3090", "h200"],
)
def test_machines_with_gpus(detect, fake, count, sku, link, capability):
    hardware = detect(fake)

    assert hardware.kind is DeviceKind.CUDA
    assert hardware.rank_count == count
    assert {device.sku for device in hardware.devices} == {sku}
    assert {device.compute_capability for device in hardware.devices} == {capability}
    assert hardware.nodes[0].link is link
    assert hardware.nodes[0].driver_version == fake.driver
    assert hardware.nodes[0].network_bytes_per_s is None
    assert (hardware.nodes[0].host.adam_parameters_per_s or 0) > 0
    assert hardware.notes == ()
    assert decode(Hardware, encode(hardware)) == hardware


def test_the_first_ranks_in_visible_order(detect):
    hardware = detect(a100_nvswitch(), ranks=2, visible_devices="6,5,4")

    assert [device.index for device in hardware.devices] == [6, 5]


def test_a_used_gpu_stays_with_what_it_has_left(detect):
    fake = a100_nvswitch()
    fake.gpus[3].pids, fake.gpus[3].used_mib = [4711], 23000

    hardware = detect(fake)

    assert hardware.rank_count == 8
    assert hardware.device_memory_bytes == (81920 - 23000) * 2**20
    assert hardware.notes == ("GPU 3 is used by 1 other process, 61.8 GB of 85.9 GB free.",)
    assert detect(fake, ranks=3).notes == ()


def test_a_mig_slice_is_one_device(detect):
    hardware = detect(a100_mig(), visible_devices="MIG-e1")

    (device,) = hardware.devices
    assert device.is_mig
    assert device.uuid.startswith("MIG-e1")
    assert hardware.device_memory_bytes == (40192 - 37) * 2**20


@pytest.mark.parametrize(
    ("fake", "visible", "sentence"),
    [
        (rtx3090_pcie(), None, "use for 4 GPUs only: ask for 4 at most."),
        (rtx3090_pcie(), "1", "use for 1 GPU only: ask for 1 at most, or show more of the 4 GPUs with CUDA_VISIBLE"),
        (a100_mig(), None, "use for 1 MIG slice only: ask for 1 at most."),
    ],
)
def test_more_ranks_than_gpus(detect, fake, visible, sentence):
    with pytest.raises(UsageError) as caught:
        detect(fake, ranks=8, visible_devices=visible)

    assert "--ranks 8" in str(caught.value)
    assert sentence in str(caught.value)


def test_no_rank_at_all(detect):
    with pytest.raises(UsageError, match="one rank at least"):
        detect(h200(), ranks=0)


def test_cpu_ranks_share_the_host(detect):
    hardware = detect(no_driver(), ranks=4)

    assert hardware.kind is DeviceKind.CPU
    assert [device.index for device in hardware.devices] == [0, 1, 2, 3]
    assert hardware.devices[0].name == "AMD EPYC 7742 64-Core Processor"
    assert hardware.devices[0].memory_total_bytes == GB // 10 // 4
    assert hardware.device_memory_bytes == (GB // 10 - GB // 50) // 4
    assert hardware.nodes[0].link is Link.HOST
    assert "No NVIDIA GPU was found: 4 CPU ranks stand in" in hardware.notes[0]


def test_cpu_ranks_by_default(detect):
    hardware = detect(no_driver(), visible_devices="0,1")

    assert hardware.rank_count == min(2, hardware.nodes[0].host.core_count)


def test_more_cpu_ranks_than_cores_is_said(detect):
    ranks = (psutil.cpu_count() or 1) + 1

    assert f"{ranks} ranks share" in detect(no_driver(), ranks=ranks).notes[1]


def test_hidden_gpus_leave_the_cpu(detect):
    hardware = detect(rtx3090_pcie(), visible_devices="-1")

    assert hardware.kind is DeviceKind.CPU
    assert "None of the 4 GPUs here can be used" in hardware.notes[0]


def test_a_broken_driver_is_said(detect):
    hardware = detect(FakeNvml(init_error=pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH))

    assert hardware.kind is DeviceKind.CPU
    assert "does not answer" in hardware.notes[0]


def test_a_memory_limit_caps_each_device(detect):
    hardware = detect(rtx3090_pcie(), memory_limit_bytes=8 * GB)

    assert hardware.device_memory_bytes == 8 * GB
    assert hardware.notes == ()


def test_a_memory_limit_above_what_is_there_is_said(detect):
    hardware = detect(rtx3090_pcie(), memory_limit_bytes=80 * GB)

    assert hardware.device_memory_bytes == (24576 - 350) * 2**20
    assert "--memory-limit 80.0 GB is more than the 25.4 GB free" in hardware.notes[0]

import pytest

from autofit.domain.hardware import Link
from autofit.hardware import sku
from autofit.hardware.devices import link_between, notes_on, to_device
from autofit.hardware.nvml import VendorNvml
from tests.hardware.fake_nvml import FakeGpu, FakeNvml, a100_mig, a100_nvswitch, h200, rtx3090_pcie, v100_cube_mesh


def devices_of(fake):
    reading = VendorNvml(fake).read()
    return [to_device(gpu, own_pid=1) for gpu in reading.gpus], reading.nvlink_pairs


@pytest.mark.parametrize(
    ("fake", "link"),
    [
        (a100_nvswitch(), Link.NVLINK),
        (v100_cube_mesh(), Link.NVLINK),
        (rtx3090_pcie(), Link.PCIE),
        (h200(), Link.UNKNOWN),
    ],
    ids=["nvswitch", "cube mesh", "pcie", "single"],
)
def test_link(fake, link):
    assert link_between(*devices_of(fake)) is link


def test_bridged_pairs_still_meet_over_pcie():
    fake = rtx3090_pcie()
    fake.nvlink = {(0, 1), (2, 3)}
    devices, pairs = devices_of(fake)

    assert link_between(devices, pairs) is Link.PCIE
    assert link_between(devices[:2], pairs) is Link.NVLINK
    assert link_between(devices[1:3], pairs) is Link.PCIE


def test_a_hidden_gpu_does_not_connect_the_others():
    devices, pairs = devices_of(v100_cube_mesh())

    assert link_between([devices[0], devices[5]], pairs) is Link.PCIE
    assert link_between([devices[0], devices[1], devices[5]], pairs) is Link.NVLINK


def test_a_link_that_nvml_does_not_tell_is_unknown():
    devices, _ = devices_of(a100_nvswitch())

    assert link_between(devices, None) is Link.UNKNOWN


def test_our_own_process_does_not_count():
    fake = a100_nvswitch()
    fake.gpus[0].pids = [1, 77, 77, 78]
    devices, _ = devices_of(fake)

    assert devices[0].other_process_count == 2
    assert devices[1].other_process_count == 0


def test_note_on_a_used_gpu():
    fake = a100_nvswitch()
    fake.gpus[3].pids = [4711]
    fake.gpus[3].used_mib = 23000
    devices, _ = devices_of(fake)

    assert notes_on(devices) == ("GPU 3 is used by 1 other process, 61.8 GB of 85.9 GB free.",)


def test_note_on_memory_that_no_visible_process_holds():
    fake = h200()
    fake.gpus[0].used_mib = 60000
    devices, _ = devices_of(fake)

    assert "unseen by the driver, 87.8 GB of 151 GB free" in notes_on(devices)[0]


def test_idle_known_gpus_need_no_notes():
    assert notes_on(devices_of(v100_cube_mesh())[0]) == ()


def test_a_known_product_brings_its_rates():
    devices, _ = devices_of(a100_nvswitch())

    assert {device.rates for device in devices} == {sku.get("A100-SXM4-80GB").rates}


def test_unknown_hardware_is_said_once():
    fake = FakeNvml([FakeGpu("NVIDIA T9000", f"GPU-{i}", 8192) for i in range(2)])
    devices, _ = devices_of(fake)

    assert [device.sku for device in devices] == [None, None]
    assert [device.rates for device in devices] == [None, None]
    assert len(notes_on(devices)) == 1
    assert "NVIDIA T9000 is not in autofit's table" in notes_on(devices)[0]


def test_mixed_gpus_are_said():
    fake = FakeNvml([*rtx3090_pcie().gpus[:1], FakeGpu("NVIDIA GeForce RTX 4090", "GPU-9", 24564, capability=(8, 9))])
    devices, _ = devices_of(fake)

    assert "1 × NVIDIA GeForce RTX 3090 and 1 × NVIDIA GeForce RTX 4090" in notes_on(devices)[0]


def test_a_slice_is_no_known_product():
    fake = a100_mig()
    fake.gpus[0].slices[0].name = "NVIDIA H200"  # even if a driver called it like a whole one
    fake.gpus[0].slices[0].total_mib = 143771
    (parent,) = VendorNvml(fake).read().gpus
    device = to_device(parent.slices[0], own_pid=1)

    assert device.is_mig
    assert device.sku is None
    assert device.rates is None
    assert device.uuid.startswith("MIG-")
    assert device.memory_total_bytes == 143771 * 2**20

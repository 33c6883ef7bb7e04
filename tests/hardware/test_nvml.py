import pynvml
import pytest

from autofit.hardware.nvml import Reading, VendorNvml
from tests.hardware.fake_nvml import FakeGpu, FakeNvml, a100_mig, a100_nvswitch, no_driver, v100_cube_mesh


def test_reads_what_a_machine_with_nvswitch_says():
    fake = a100_nvswitch()
    fake.gpus[2].pids = [4711, 4712]

    reading = VendorNvml(fake).read()

    assert reading.driver_version == "535.129.03"
    assert [gpu.index for gpu in reading.gpus] == list(range(8))
    gpu = reading.gpus[2]
    assert gpu.name == "NVIDIA A100-SXM4-80GB"
    assert gpu.memory_total_bytes == 81920 * 2**20
    assert gpu.memory_free_bytes == (81920 - 500) * 2**20
    assert gpu.compute_capability == (8, 0)
    assert gpu.process_ids == (4711, 4712)
    assert not gpu.is_in_mig_mode
    assert len(reading.nvlink_pairs) == 28


def test_closes_the_session_also_after_an_error():
    fake = a100_nvswitch()
    fake.nvmlDeviceGetCount = _raise(pynvml.NVML_ERROR_UNKNOWN)

    reading = VendorNvml(fake).read()

    assert not fake.is_open
    assert not reading.gpus
    assert "Unknown Error" in reading.problems[0]


def test_only_linked_pairs_are_pairs():
    pairs = VendorNvml(v100_cube_mesh()).read().nvlink_pairs

    assert (0, 4) in pairs
    assert (0, 5) not in pairs


def test_a_driver_that_cannot_tell_about_nvlink_says_so():
    fake = a100_nvswitch()
    fake.nvlink = None

    assert VendorNvml(fake).read().nvlink_pairs is None


@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED])
def test_a_machine_without_a_driver_is_empty(error):
    assert VendorNvml(FakeNvml(init_error=error)).read() == Reading()


def test_a_broken_driver_is_a_problem_and_not_an_absence():
    reading = VendorNvml(FakeNvml(init_error=pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)).read()

    assert not reading.gpus
    assert "restart the machine" in reading.problems[0]


def test_a_lost_gpu_is_left_out_and_the_others_keep_their_numbers():
    fake = a100_nvswitch()
    fake.gpus[1].is_lost = True

    reading = VendorNvml(fake).read()

    assert [gpu.index for gpu in reading.gpus] == [0, 2, 3, 4, 5, 6, 7]
    assert reading.problems == ("GPU 1 does not answer (GPU is lost) and is left out.",)
    assert (0, 1) not in reading.nvlink_pairs


def test_mig_slices_hang_under_their_parent():
    (parent,) = VendorNvml(a100_mig()).read().gpus

    assert parent.is_in_mig_mode
    assert [piece.uuid[:8] for piece in parent.slices] == ["MIG-e000", "MIG-e100"]
    assert all(piece.is_slice and piece.compute_capability == (8, 0) for piece in parent.slices)
    assert parent.slices[0].memory_total_bytes == 40192 * 2**20


def test_an_unanswered_detail_does_not_lose_the_gpu():
    fake = FakeNvml([FakeGpu("NVIDIA T9000", "GPU-1", 8192)])
    fake.nvmlDeviceGetComputeRunningProcesses = _raise(pynvml.NVML_ERROR_NO_PERMISSION)
    fake.nvmlDeviceGetCudaComputeCapability = _raise(pynvml.NVML_ERROR_NOT_SUPPORTED)

    (gpu,) = VendorNvml(fake).read().gpus

    assert gpu.process_ids == ()
    assert gpu.compute_capability is None


def test_the_real_library_of_this_machine_answers_or_is_absent():
    reading = VendorNvml().read()

    assert all(gpu.memory_total_bytes > 0 and gpu.uuid.startswith("GPU-") for gpu in reading.gpus)
    assert bool(reading.gpus) == (reading.driver_version is not None)


def test_absence_is_the_same_for_the_fake_and_for_a_machine_without_gpus():
    real = VendorNvml().read()
    if real.gpus or real.problems:
        pytest.skip("this machine has an NVIDIA driver")

    assert VendorNvml(no_driver()).read() == real


def _raise(error):
    def raising(*_arguments):
        raise pynvml.NVMLError(error)

    return raising

import pytest

from autofit.domain.errors import UsageError
from autofit.hardware.nvml import VendorNvml
from autofit.hardware.visible import select_visible
from tests.hardware.fake_nvml import FakeGpu, FakeNvml, a100_mig, a100_nvswitch


@pytest.fixture
def gpus():
    return VendorNvml(a100_nvswitch()).read().gpus


@pytest.fixture
def mig_gpus():
    return VendorNvml(a100_mig()).read().gpus


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        (None, [0, 1, 2, 3, 4, 5, 6, 7]),
        ("0", [0]),
        ("3,1", [3, 1]),
        (" 2 , 5 ", [2, 5]),
        ("GPU-a4000000-1111-2222-3333-444444444444", [4]),
        ("GPU-a4,GPU-a0", [4, 0]),
        ("GPU-a4,1", [4, 1]),
        ("2,-1,3", [2]),
        ("", []),
        ("  ", []),
        ("-1", []),
    ],
)
def test_forms_of_the_list(gpus, text, indices):
    selection = select_visible(gpus, text)

    assert [gpu.index for gpu in selection.gpus] == indices
    assert selection.notes == ()


@pytest.mark.parametrize("bad", ["9", "GPU-zz", "GPU-a", "gpu1", "1x", ""])
def test_an_invalid_entry_ends_the_list(gpus, bad):
    selection = select_visible(gpus, f"0,{bad},1")

    assert [gpu.index for gpu in selection.gpus] == [0]
    assert f"'{bad}' is no GPU of this machine" in selection.notes[0]


@pytest.mark.parametrize("text", ["9", "NoDevFiles", "GPU-zz,0"])
def test_a_list_that_names_no_gpu_is_an_error(gpus, text):
    with pytest.raises(UsageError, match="names none of the 8 GPUs here"):
        select_visible(gpus, text)


@pytest.mark.parametrize("text", ["0,0", "1,GPU-a1"])
def test_a_gpu_named_twice_is_an_error(gpus, text):
    with pytest.raises(UsageError, match=r"names GPU \d twice"):
        select_visible(gpus, text)


def test_a_list_on_a_machine_without_gpus_means_nothing():
    assert select_visible((), "0,1").gpus == ()


def test_a_mig_slice_by_its_uuid(mig_gpus):
    selection = select_visible(mig_gpus, "MIG-e1")

    assert [gpu.uuid[:8] for gpu in selection.gpus] == ["MIG-e100"]
    assert selection.notes == ()


@pytest.mark.parametrize("text", [None, "0", "GPU-e9"])
def test_of_a_parent_in_mig_mode_the_first_slice_is_used(mig_gpus, text):
    selection = select_visible(mig_gpus, text)

    assert [gpu.uuid[:8] for gpu in selection.gpus] == ["MIG-e000"]
    assert selection.notes == ("One of 2 MIG slices is used: a process sees no more than one.",)


def test_a_parent_without_slices_is_no_device():
    selection = select_visible(VendorNvml(a100_mig(slice_count=0)).read().gpus, None)

    assert selection.gpus == ()
    assert "GPU 0 is in MIG mode, has no slices" in selection.notes[0]


def test_whole_gpus_go_before_slices():
    fake = FakeNvml([*a100_mig().gpus, FakeGpu("NVIDIA A100-SXM4-80GB", "GPU-f0", 81920, mig=False)])

    selection = select_visible(VendorNvml(fake).read().gpus, None)

    assert [gpu.uuid for gpu in selection.gpus] == ["GPU-f0"]
    assert "MIG slices are left out" in selection.notes[0]

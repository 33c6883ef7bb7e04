import pytest

from autofit.domain.hardware import Link
from autofit.hardware import sku

GIB = 2**30
MIB = 2**20


@pytest.mark.parametrize(
    ("name", "total_mib", "key"),
    [
        ("NVIDIA A100-SXM4-80GB", 81920, "A100-SXM4-80GB"),
        ("A100-SXM4-40GB", 40536, "A100-SXM4-40GB"),
        ("NVIDIA A100-PCIE-40GB", 40960, "A100-PCIe-40GB"),
        ("NVIDIA A100 80GB PCIe", 81920, "A100-PCIe-80GB"),
        ("Tesla V100-SXM2-32GB", 32768, "V100-SXM2-32GB"),
        ("Tesla V100-SXM2-16GB", 16160, "V100-SXM2-16GB"),
        ("Tesla V100-PCIE-32GB", 32510, "V100-PCIe-32GB"),
        ("NVIDIA GeForce RTX 3090", 24576, "RTX-3090"),
        ("NVIDIA GeForce RTX 4090", 24564, "RTX-4090"),
        ("NVIDIA RTX A6000", 49140, "RTX-A6000"),
        ("NVIDIA L4", 23034, "L4"),
        ("NVIDIA L40S", 46068, "L40S"),
        ("Tesla T4", 15360, "T4"),
        ("NVIDIA A10", 23028, "A10"),
        ("NVIDIA A10G", 22731, "A10G"),
        ("NVIDIA H100 80GB HBM3", 81559, "H100-SXM5-80GB"),
        ("NVIDIA H100 PCIe", 81559, "H100-PCIe-80GB"),
        ("NVIDIA H200", 143771, "H200-SXM-141GB"),
        ("NVIDIA H100 NVL", 95830, "H100-NVL-94GB"),
        ("NVIDIA B200", 183359, "B200"),
        ("NVIDIA A40", 46068, "A40"),
        ("NVIDIA L40", 46068, "L40"),
        ("NVIDIA RTX 6000 Ada Generation", 49140, "RTX-6000-Ada"),
        ("NVIDIA GeForce RTX 5090", 32607, "RTX-5090"),
    ],
)
def test_known_products_by_what_nvml_reports(name, total_mib, key):
    assert sku.find(name, total_mib * MIB) == key


@pytest.mark.parametrize(
    ("name", "total_gib"),
    [
        ("NVIDIA GeForce RTX 3090", 48),  # the same name on a board with other memory
        ("NVIDIA GeForce RTX 3090 Ti", 24),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", 40),
        ("NVIDIA A10-8Q", 8),
        ("", 80),
    ],
)
def test_what_is_not_in_the_table_is_not_guessed(name, total_gib):
    assert sku.find(name, total_gib * GIB) is None


def test_get_by_key():
    v100 = sku.get("V100-SXM2-32GB")

    assert v100.bf16_flop_per_s is None
    assert v100.fp16_flop_per_s == 125e12
    assert v100.nvlink_bandwidth_bytes_per_s == 300e9
    assert v100.compute_capability == (7, 0)
    assert "datasheet" in v100.sources["fp16_flop_per_s"]
    with pytest.raises(KeyError):
        sku.get("V100")


@pytest.mark.parametrize("entry", sku.known(), ids=lambda entry: entry.key)
def test_figures_are_in_their_units(entry):
    assert entry.fp16_flop_per_s is not None
    assert 10e12 < entry.fp16_flop_per_s < 1e16
    assert 5e12 < entry.fp32_flop_per_s < entry.fp16_flop_per_s
    assert 2e11 < entry.memory_bandwidth_bytes_per_s < 2e13
    assert 15e9 < entry.memory_bytes < 300e9
    assert (entry.bf16_flop_per_s is not None) == (entry.compute_capability >= (8, 0))
    assert (entry.nvlink_bandwidth_bytes_per_s or 1e12) > entry.pcie_bandwidth_bytes_per_s
    assert (entry.nvlink_bandwidth_bytes_per_s is None) == (entry.nvlink_device_count is None)
    assert 50 < entry.power_w < 1500
    assert 0.9 < entry.visible_memory_bytes / entry.memory_bytes <= 1
    assert "" not in entry.sources.values()
    assert entry.sources.keys() >= {"memory_bytes", "power_w"}


def test_rates_are_in_one_direction():
    rates = sku.get("A100-SXM4-80GB").rates

    assert (rates.device_link_bytes_per_s, rates.host_link_bytes_per_s) == (300e9, 32e9)
    assert (rates.bf16_flop_per_s, rates.memory_bytes_per_s, rates.power_w) == (312e12, 2039e9, 400)
    assert sku.get("T4").rates.device_link_bytes_per_s is None


@pytest.mark.parametrize(
    ("key", "count", "link"),
    [
        ("A100-SXM4-80GB", 8, Link.NVLINK),
        ("A100-PCIe-80GB", 2, Link.NVLINK),
        ("A100-PCIe-80GB", 4, Link.PCIE),
        ("RTX-4090", 2, Link.PCIE),
    ],
)
def test_how_far_nvlink_reaches(key, count, link):
    assert sku.get(key).link(count) is link


def test_no_name_belongs_to_two_products():
    names = [name for entry in sku.known() for name in entry.names]

    assert len(names) == len(set(names))

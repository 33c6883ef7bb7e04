import pytest

from autofit.domain.codec import decode, encode
from autofit.domain.errors import UsageError
from autofit.domain.hardware import DeviceKind, Hardware, Link
from autofit.hardware import sku
from autofit.hardware.machine_spec import ALIASES, is_called, parse_machine

GB, GIB = 10**9, 2**30


@pytest.mark.parametrize(
    ("text", "nodes", "count", "key", "link"),
    [
        ("8xA100-80GB", 1, 8, "A100-SXM4-80GB", Link.NVLINK),
        ("A100-80GB", 1, 1, "A100-SXM4-80GB", Link.UNKNOWN),
        ("2x8xV100-32GB", 2, 16, "V100-SXM2-32GB", Link.NVLINK),
        ("2 x 8 x h100", 2, 16, "H100-SXM5-80GB", Link.NVLINK),
        ("8×h200", 1, 8, "H200-SXM-141GB", Link.NVLINK),
        ("4xA100-PCIe-80GB", 1, 4, "A100-PCIe-80GB", Link.PCIE),
        ("2xRTX3090", 1, 2, "RTX-3090", Link.NVLINK),
        ("4xRTX3090", 1, 4, "RTX-3090", Link.PCIE),
        ("2x4090", 1, 2, "RTX-4090", Link.PCIE),
        ("rtx 4090", 1, 1, "RTX-4090", Link.UNKNOWN),
        ("NVIDIA GeForce RTX 4090", 1, 1, "RTX-4090", Link.UNKNOWN),
        ("8xA100 40GB", 1, 8, "A100-SXM4-40GB", Link.NVLINK),
    ],
)
def test_known_machines(text, nodes, count, key, link):
    hardware = parse_machine(text)

    assert (len(hardware.nodes), hardware.rank_count) == (nodes, count)
    assert {device.sku for device in hardware.devices} == {key}
    assert {node.link for node in hardware.nodes} == {link}
    assert hardware.devices[0].rates == sku.get(key).rates
    assert [device.index for device in hardware.nodes[-1].devices] == list(range(count // nodes))


@pytest.mark.parametrize("name", [*(product.key for product in sku.known()), *ALIASES])
def test_every_known_name_is_read(name):
    assert parse_machine(f"4x{name}").rank_count == 4
    assert parse_machine(name.lower()).rank_count == 1


@pytest.mark.parametrize(
    ("name", "capacity_gib"),  # as torch's out-of-memory messages print it
    [
        ("A100-80GB", 79.15),
        ("A100-40GB", 39.39),
        ("V100-32GB", 31.74),
        ("RTX-3090", 23.69),
        ("T4", 14.75),
        ("A10G", 22.2),
    ],
)
def test_free_memory_is_what_torch_sees(name, capacity_gib):
    assert parse_machine(name).device_memory_bytes / GIB == pytest.approx(capacity_gib, abs=0.25)


def test_what_was_assumed_is_said():
    hardware = parse_machine("2x8xA100-80GB")
    host = hardware.nodes[0].host

    assumed = "1.0 TB of host memory (host=…), 96 cores (cores=…), 25.0 GB/s between nodes (network=…)"
    assert hardware.notes == (f"Assumed for each node: {assumed}.",)
    assert (host.memory_available_bytes, host.core_count) == (8 * 128 * GB, 96)
    assert hardware.nodes[0].network_bytes_per_s == 25e9


def test_what_was_said_is_not_assumed():
    hardware = parse_machine("2x8xA100-80GB,host=512GiB,cores=24,network=50GB/s")
    host = hardware.nodes[0].host

    assert hardware.notes == ()
    assert (host.memory_total_bytes, host.core_count) == (512 * GIB, 24)
    assert host.adam_parameters_per_s == 2e9
    assert hardware.nodes[0].network_bytes_per_s == 50e9


def test_one_node_has_no_network():
    assert parse_machine("8xA100").nodes[0].network_bytes_per_s is None


def test_an_unknown_device():
    hardware = parse_machine(
        "gpus=8,memory=48GiB,tflops=150,nodes=2,bandwidth=900GB,nvlink=300GB,pcie=64GB/s,network=25GB,host=512GiB,"
        "cores=64,capability=8.9,power=300,fp32_tflops=75,name=Hopeful 9000"
    )
    device = hardware.devices[0]

    assert hardware.notes == ()
    assert hardware.summary == "16 × Hopeful 9000"
    assert hardware.kind is DeviceKind.CUDA
    assert hardware.nodes[0].link is Link.NVLINK
    assert device.sku is None
    assert device.memory_total_bytes == 48 * GIB
    assert device.compute_capability == (8, 9)
    assert device.rates is not None
    assert (device.rates.bf16_flop_per_s, device.rates.fp16_flop_per_s) == (150e12, 150e12)
    assert (device.rates.fp32_flop_per_s, device.rates.power_w) == (75e12, 300)
    assert device.rates.memory_bytes_per_s == 900e9
    assert (device.rates.device_link_bytes_per_s, device.rates.host_link_bytes_per_s) == (300e9, 64e9)


def test_an_unknown_device_in_few_words():
    hardware = parse_machine("gpus=2,memory=24GB,tflops=75")

    assert hardware.nodes[0].link is Link.PCIE
    assert hardware.notes[0] == (
        "Assumed for each device: 500 GB/s of device memory (bandwidth=…), 32.0 GB/s to the host (pcie=…), "
        "compute capability 8.0 (capability=…)."
    )
    assert decode(Hardware, encode(hardware)) == hardware


def test_before_ampere_there_is_no_bf16():
    rates = parse_machine("memory=16GB,tflops=65,capability=7.5").devices[0].rates

    assert rates is not None
    assert (rates.bf16_flop_per_s, rates.fp16_flop_per_s) == (None, 65e12)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("8xA100-90GB", "no device called 'A100-90GB' is in autofit's table; the nearest known: A100-SXM4-80GB"),
        ("8xabacus", "known: V100-SXM2-16GB"),
        ("0xH100", "0 devices; ask for 1 to 16384"),
        ("99999999xH100", "99999999 devices; ask for 1 to 16384"),
        ("", "'' is not understood"),
        ("8xA100,memory=80GB", "'memory=80GB' is not understood; what can be said here: host, cores, network"),
        ("8xA100,host=", "'host=' has no value; write host=…"),
        ("8xA100,cores=many", "cores: 'many' is not a count; write a whole number above 0"),
        ("gpus=8", "memory and tflops missing; name a known device"),
        ("gpus=8,memory=big,tflops=1", "memory: 'big' is not a size; write it like 24GiB"),
        ("gpus=8,memory=1GB,tflops=nan", "tflops: 'nan' is not a number above 0"),
        ("gpus=8,memory=1GB,tflops=1,nvlink=0GB", "nvlink: '0GB' is no speed"),
        ("gpus=8,memory=1GB,tflops=1,capability=8", "capability: '8' is not a compute capability; write it like 8.9"),
        ("gpu=8,memory=1GB,tflops=1", "'gpu=8' is not understood; did you mean gpus=…?"),
        ("gpus=8,gpus=8,memory=1GB,tflops=1", "gpus is given twice"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(text, sentence):
    with pytest.raises(UsageError) as caught:
        parse_machine(text)

    assert str(caught.value).startswith(f"--on {text}: ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("name", "on", "is_meant"),
    [
        ("A100-80GB", "8xA100-80GB", True),
        ("8xA100-80GB", "8xA100-80GB", True),
        ("8xa100", "8xA100-80GB,host=2TB", True),
        ("4xA100-80GB", "8xA100-80GB", False),
        ("A100-40GB", "8xA100-80GB", False),
        ("NVIDIA A100-SXM4-80GB", "8xA100-80GB", True),
        ("mine", "gpus=4,memory=48GiB,tflops=90,name=mine", True),
        ("gpus=4,memory=48GiB,tflops=90,name=mine", "gpus=4,memory=48GiB,tflops=90,name=mine", True),
        ("mine", "8xA100-80GB", False),
    ],
)
def test_a_machine_is_called_by_its_words_or_by_its_device(name: str, on: str, is_meant: bool) -> None:
    assert is_called(name, parse_machine(on)) is is_meant

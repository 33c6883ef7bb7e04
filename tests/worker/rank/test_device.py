"""A rank's GPU with scripted answers of NVML and CUDA: its name, the meter, DeepSpeed's question."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from autofit.domain.hardware import DeviceKind
from autofit.process.python import worker_environment
from autofit.worker.rank import memory_meter
from autofit.worker.rank.device import DriverMemory, own_device_name, show_devices
from autofit.worker.rank.memory_meter import CudaMeter
from tests.hardware.fake_nvml import MIB, a100_mig, a100_nvswitch

CONTEXT_MIB, SEGMENT_MIB = 450, 2
SLICE = "MIG-e1000000-1111-2222-3333-444444444444"


@pytest.fixture(autouse=True)
def _no_devices_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")  # so that the end of the test puts back what a test sets by itself
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("visible", "local_rank", "name"),
    [(("2", "5"), "1", "5"), ((SLICE,), "0", SLICE), ((), "3", "3")],
    ids=["indices", "slice", "all visible"],
)
def test_a_rank_finds_the_name_of_its_own_device(
    visible: tuple[str, ...], local_rank: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    if visible:
        show_devices(visible)
    assert own_device_name() == name


def test_the_driver_is_asked_about_whole_gpus_by_index_and_about_slices_by_uuid() -> None:
    gpus, slices = a100_nvswitch(), a100_mig()
    gpus.gpus[5].used_mib, slices.gpus[0].slices[1].used_mib = 5000, 777
    assert DriverMemory("5", gpus).used_bytes() == 5000 * MIB
    assert DriverMemory(SLICE, slices).used_bytes() == 777 * MIB


def test_a_gpu_that_is_lost_leaves_what_was_known_of_it() -> None:
    gpus = a100_nvswitch()
    driver = DriverMemory("2", gpus)
    gpus.gpus[2].used_mib = 900
    assert driver.used_bytes() == 900 * MIB
    gpus.gpus[2].is_lost = True
    assert driver.used_bytes() == 900 * MIB


def test_the_agent_is_shown_no_slice_whatever_its_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's count of GPUs is -1 at a MIG name, and then asks CUDA, which no fork survives."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", SLICE)
    assert "CUDA_VISIBLE_DEVICES" not in worker_environment(DeviceKind.CUDA)
    assert worker_environment(DeviceKind.CPU)["CUDA_VISIBLE_DEVICES"] == ""


# --- The meter --------------------------------------------------------------------------------------------------------


class Card:
    """A scripted card of 80 GiB: what the allocator, the context and others take of it (MiB)."""

    total_mib = 80 * 1024

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.others_mib, self.context_mib, self.reserved_mib, self.most_reserved_mib, self.pinned_mib = 300, 0, 0, 0, 0
        self.fraction = 1.0
        answers: dict[str, Any] = {
            "set_device": lambda device: None,
            "synchronize": lambda: None,
            "memory_reserved": lambda device: self.reserved_mib * MIB,
            "max_memory_reserved": lambda device: self.most_reserved_mib * MIB,
            "mem_get_info": lambda device: ((self.total_mib - self.used_mib) * MIB, self.total_mib * MIB),
            "set_per_process_memory_fraction": self._cap,
            "host_memory_stats": lambda: {"allocated_bytes.peak": self.pinned_mib * MIB},
        }
        for name, answer in answers.items():
            monkeypatch.setattr(torch.cuda, name, answer)
        monkeypatch.setattr(torch, "zeros", self._first_tensor)

    @property
    def used_mib(self) -> int:
        return self.others_mib + self.context_mib + self.reserved_mib

    def used_bytes(self) -> int:
        return self.used_mib * MIB

    def reserve(self, mib: int) -> None:
        self.reserved_mib = mib
        self.most_reserved_mib = max(self.most_reserved_mib, mib)

    def _first_tensor(self, *_: Any, **__: Any) -> None:
        self.context_mib = CONTEXT_MIB
        self.reserve(SEGMENT_MIB)

    def _cap(self, fraction: float, device: int) -> None:
        self.fraction = fraction

    @property
    def allowed_mib(self) -> float:
        return self.fraction * self.total_mib


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    return Card(monkeypatch)


def make_meter(card: Card) -> CudaMeter:
    return CudaMeter(card)  # type: ignore[arg-type]


def test_the_base_is_the_context_alone_not_the_allocators_first_segment(card: Card) -> None:
    assert make_meter(card).base_bytes == CONTEXT_MIB * MIB


def test_nccls_buffers_and_late_kernels_count_into_the_peak(card: Card) -> None:
    meter = make_meter(card)
    card.reserve(5000)
    card.context_mib += 600  # the communicator
    meter.mark()
    card.reserve(1000)
    card.context_mib += 90  # a kernel that is loaded when it is first needed
    assert meter.peak_device_bytes() == (CONTEXT_MIB + 600 + 90 + 5000) * MIB
    assert meter.base_bytes == (CONTEXT_MIB + 690) * MIB


def test_the_cap_leaves_the_allocator_what_a_card_of_that_size_would(card: Card) -> None:
    meter = make_meter(card)
    meter.cap(24 * 1024 * MIB)
    assert card.allowed_mib == pytest.approx(24 * 1024 - CONTEXT_MIB)
    card.context_mib += 600
    meter.mark()
    assert card.allowed_mib == pytest.approx(24 * 1024 - CONTEXT_MIB - 600)


def test_what_is_free_is_the_drivers_figure_and_under_a_cap_that_of_a_small_card(card: Card) -> None:
    meter = make_meter(card)
    card.reserve(3000)
    assert meter.available_bytes() == (card.total_mib - card.used_mib) * MIB
    meter.cap(8192 * MIB)
    assert meter.available_bytes() == (8192 - CONTEXT_MIB - 3000) * MIB
    card.others_mib = card.total_mib - card.used_mib - 100
    assert meter.available_bytes() == (card.total_mib - card.used_mib) * MIB


def test_pinned_memory_counts_into_the_hosts_peak(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    status = {"VmHWM": 3000 * MIB, "RssFile": 500 * MIB, "RssShmem": 1500 * MIB, "RssAnon": 1000 * MIB}
    monkeypatch.setattr(memory_meter, "_status", lambda: status)
    meter = make_meter(card)
    card.pinned_mib = 1536
    assert meter.peak_host_bytes() == (1000 + 1536) * MIB


# --- DeepSpeed --------------------------------------------------------------------------------------------------------

_ASK = """
import os, sys
os.environ.update(DS_ACCELERATOR="cuda", CUDA_VISIBLE_DEVICES="GPU-a5000000-1111-2222-3333-444444444444")
from deepspeed.accelerator import cuda_accelerator, get_accelerator
from tests.hardware.fake_nvml import a100_nvswitch
cuda_accelerator.pynvml = a100_nvswitch()
accelerator = get_accelerator()
accelerator.current_device = lambda: 0
assert type(accelerator) is cuda_accelerator.CUDA_Accelerator
if "mended" in sys.argv:
    from autofit.worker.rank.device import override_deepspeed_memory
    override_deepspeed_memory(lambda: 12345)
try:
    print(accelerator.available_memory())
except ValueError as error:
    print("ValueError")
"""


@pytest.mark.parametrize(("words", "says"), [((), "ValueError"), (("mended",), "12345")], ids=["alone", "told"])
def test_deepspeeds_own_question_fails_at_a_uuid_and_ours_answers_it(words: tuple[str, ...], says: str) -> None:
    """As long as the first of the two is so, the second is needed."""
    asked = subprocess.run([sys.executable, "-c", _ASK, *words], capture_output=True, text=True, check=True)
    assert asked.stdout.splitlines()[-1] == says


def test_the_meter_of_a_gpu_tells_deepspeed(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(memory_meter, "DriverMemory", lambda name: SimpleNamespace(used_bytes=card.used_bytes))
    monkeypatch.setattr(memory_meter, "override_deepspeed_memory", told.append)
    meter = memory_meter.meter("cuda")
    assert told == [meter.available_bytes]  # type: ignore[attr-defined]

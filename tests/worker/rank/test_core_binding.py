"""Ranks whose optimizer runs on the host keep to their cores, with all their threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from autofit.domain.hardware import DeviceKind
from autofit.domain.knobs.offload import Offload
from autofit.domain.strategy import Strategy
from autofit.probing.protocol import Job
from autofit.process.cores import Core
from autofit.worker.rank import core_binding
from tests.builders import make_request, make_rung

CORES = tuple(Core(node, (2 * node + index,)) for node in (0, 1) for index in (0, 1))
_BOUND = """
import json, os, threading
from autofit.worker.rank.core_binding import take_cores
core = max(os.sched_getaffinity(0))
take_cores([(core,)])
import torch
found = []
thread = threading.Thread(target=lambda: found.append(sorted(os.sched_getaffinity(0))))
thread.start()
thread.join()
print(json.dumps([core, found[0], torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]]))
"""


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What a rank of a node with a GPU on each of two sockets takes."""
    found: list[object] = []
    monkeypatch.setattr(core_binding, "take_cores", found.append)
    monkeypatch.setattr(core_binding, "read_cores", lambda: CORES)
    monkeypatch.setattr(core_binding, "pci_numa_node", lambda address: {"0000:17:00.0": 1, "0000:ca:00.0": 0}[address])
    place = (SimpleNamespace(pci_domain_id=0, pci_bus_id=bus, pci_device_id=0) for bus in (0x17, 0xCA))
    monkeypatch.setattr(torch.cuda, "get_device_properties", [*place].__getitem__)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("LOCAL_SIZE", "2")
    return found


def job(offload: Offload = Offload.PARTIAL, kind: DeviceKind = DeviceKind.CUDA, *, is_rehearsal: bool = False) -> Job:
    rung = make_rung(3, offload=offload)
    return Job(make_request(), Strategy(rung, 1, 1), "{}", kind, 2, is_rehearsal=is_rehearsal)


def test_each_rank_takes_those_beside_its_gpu(taken: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        core_binding.bind_cores(job())
    assert taken == [[(2,), (3,)], [(0,), (1,)]]


@pytest.mark.parametrize(
    "other", [job(Offload.NONE), job(kind=DeviceKind.CPU), job(is_rehearsal=True)], ids=["device", "cpu", "rehearsal"]
)
def test_others_take_none(other: Job, taken: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    core_binding.bind_cores(other)
    assert taken == []


def test_who_set_the_threads_has_decided(taken: list[object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    core_binding.bind_cores(job())
    assert taken == []


def test_whatever_a_bound_rank_starts_runs_there() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    run = subprocess.run([sys.executable, "-c", _BOUND], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    core, in_thread, count, told = json.loads(run.stdout)
    assert (in_thread, count, told) == ([core], 1, "1")

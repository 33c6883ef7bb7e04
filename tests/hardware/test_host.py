import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from autofit.hardware.host import cpu_name, detect_host, disk_free_bytes

GB = 10**9


@pytest.fixture
def advertised(monkeypatch):
    memory = SimpleNamespace(total=64 * GB, available=48 * GB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(16)), raising=False)


def limited(root, max_bytes, current_bytes, cpu="max 100000"):
    group = root / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/\n")
    (group / "memory.max").write_text(f"{max_bytes}\n")
    (group / "memory.current").write_text(f"{current_bytes}\n")
    (group / "cpu.max").write_text(f"{cpu}\n")
    return root


@pytest.mark.usefixtures("advertised")
class TestLimits:
    def test_without_a_cgroup_the_machine_is_what_it_advertises(self, tmp_path):
        host = detect_host(tmp_path, root=tmp_path)

        assert (host.memory_total_bytes, host.memory_available_bytes) == (64 * GB, 48 * GB)
        assert host.core_count == 16

    def test_a_smaller_cgroup_decides(self, tmp_path):
        host = detect_host(tmp_path, root=limited(tmp_path, 16 * GB, 6 * GB, cpu="250000 100000"))

        assert (host.memory_total_bytes, host.memory_available_bytes) == (16 * GB, 10 * GB)
        assert host.core_count == 2

    def test_a_larger_cgroup_adds_nothing(self, tmp_path):
        host = detect_host(tmp_path, root=limited(tmp_path, 9223372036854771712, 6 * GB, cpu="9900000 100000"))

        assert (host.memory_total_bytes, host.memory_available_bytes) == (64 * GB, 48 * GB)
        assert host.core_count == 16

    def test_less_than_a_core_is_one(self, tmp_path):
        assert detect_host(tmp_path, root=limited(tmp_path, GB, 0, cpu="50000 100000")).core_count == 1


def test_this_machine():
    host = detect_host(Path())

    assert 0 < host.memory_available_bytes <= host.memory_total_bytes <= psutil.virtual_memory().total
    assert 1 <= host.core_count <= (os.cpu_count() or 1)


def test_disk_of_a_folder_that_is_yet_to_be_made(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or SimpleNamespace(free=123))

    assert disk_free_bytes(tmp_path / "runs" / "one") == 123
    assert asked == [tmp_path]


def test_cpu_name(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD EPYC 7742 64-Core Processor\n")

    assert cpu_name(tmp_path) == "AMD EPYC 7742 64-Core Processor"
    assert cpu_name(tmp_path / "nowhere")

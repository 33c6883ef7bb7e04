import platform
import shutil
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import pynvml
import pytest

from autofit.hardware.nvml import VendorNvml
from autofit.hardware.toolchain import inspect_toolchain
from tests.hardware.fake_nvml import FakeNvml, a100_nvswitch, no_driver


def inspect(fake=None, **options):
    return {finding.name: finding for finding in inspect_toolchain(VendorNvml(fake or no_driver()), **options)}


@pytest.fixture
def no_programs(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _name, path=None: None)


def test_packages_and_python_of_this_environment():
    found = inspect(run=lambda _command: "1.2")

    assert found["python"].version == platform.python_version()
    assert found["torch"].version == metadata.version("torch")
    assert found["torch"].is_present


def test_a_missing_package(monkeypatch):
    real = metadata.version

    def version(name):
        if name == "peft":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)

    peft = inspect(run=lambda _command: "1.2")["peft"]

    assert not peft.is_present
    assert peft.version is None
    assert peft.how_to_get == f"{sys.executable} -m pip install 'peft>=0.21.2'"
    assert not peft.is_optional


@pytest.mark.parametrize(("free_bytes", "is_enough"), [(64 * 2**20, False), (8 * 2**30, True)])
def test_shared_memory_as_small_as_docker_makes_it_is_told(monkeypatch, free_bytes, is_enough):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=free_bytes))

    found = inspect(run=lambda _command: "1.2")["/dev/shm"]

    assert found.is_present is is_enough
    assert is_enough or "67.1 MB free" in found.needed_for


def test_versions_are_read_from_what_programs_print(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, path=None: f"/usr/bin/{name}")
    printed = {
        "/usr/bin/g++": "g++ (Debian 12.2.0-14+deb12u1) 12.2.0\nCopyright (C) 2022\n",
        "/usr/bin/nvcc": "Copyright (c) 2005-2024 NVIDIA\nCuda compilation tools, release 12.4, V12.4.131\n",
        "/usr/bin/ninja": "1.11.1.git.kitware.jobserver-1\n",
        "/usr/bin/pdsh": "pdsh-2.34 (+readline)\n",
    }

    found = inspect(a100_nvswitch(), run=lambda command: printed[command[0]])

    assert {name: found[name].version for name in ("g++", "nvcc", "ninja", "pdsh")} == {
        "g++": "12.2.0",
        "nvcc": "12.4",
        "ninja": "1.11.1",
        "pdsh": "2.34",
    }


@pytest.mark.parametrize("error", [OSError("bad format"), subprocess.TimeoutExpired("g++", 10)])
def test_a_program_that_does_not_run_is_there_without_a_version(monkeypatch, error):
    monkeypatch.setattr(shutil, "which", lambda name, path=None: f"/usr/bin/{name}")

    def run(_command):
        raise error

    compiler = inspect(run=run)["g++"]

    assert compiler.is_present
    assert compiler.version is None


@pytest.mark.usefixtures("no_programs")
def test_missing_programs():
    found = inspect()

    assert not found["g++"].is_present
    assert not found["g++"].is_optional
    assert found["pdsh"].is_optional
    assert found["ninja"].how_to_get == "pip install ninja"


def test_ninja_beside_an_interpreter_whose_environment_is_not_activated(monkeypatch, tmp_path):
    ninja = tmp_path / "ninja"
    ninja.write_text("#!/bin/sh\necho 1.13.0\n")
    ninja.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "/nowhere")

    assert inspect()["ninja"].version == "1.13.0"


@pytest.mark.usefixtures("no_programs")
def test_nvcc_matters_only_with_gpus():
    assert "nvcc" not in inspect()
    assert not inspect(a100_nvswitch())["nvcc"].is_present


def test_nvcc_under_cuda_home(tmp_path, monkeypatch):
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\necho release 12.4\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("PATH", "/nowhere")

    assert inspect(a100_nvswitch(), cuda_home=str(tmp_path))["nvcc"].version == "12.4"


@pytest.mark.parametrize(
    ("fake", "is_present", "version"), [(a100_nvswitch(), True, "535.129.03"), (no_driver(), False, None)]
)
def test_driver(fake, is_present, version):
    driver = inspect(fake, run=lambda _command: "")["NVIDIA driver"]

    assert (driver.is_present, driver.version) == (is_present, version)


def test_a_broken_driver_says_why():
    fake = FakeNvml(init_error=pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)

    driver = inspect(fake, run=lambda _command: "")["NVIDIA driver"]

    assert not driver.is_present
    assert "version mismatch" in driver.needed_for

"""The command line of the full run, and the script that repeats it without autofit."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from autofit.domain.hardware import DeviceKind, Hardware
from autofit.running.training_command import (
    TrainingFiles,
    command_script,
    device_names,
    launcher_arguments,
    training_arguments,
)
from tests.builders import make_device, make_hardware

FILES = TrainingFiles(
    *(Path("/run", name) for name in ("request", "choice", "ds", "checkpoints", "model", "logs", "progress"))
)


def hardware(kind: DeviceKind, *uuids: str | None) -> Hardware:
    return make_hardware(
        devices=[
            make_device(n + 4, kind, uuid=uuid, is_mig=bool(uuid and uuid.startswith("MIG-")))
            for n, uuid in enumerate(uuids)
        ]
    )


GPUS = hardware(DeviceKind.CUDA, "GPU-aa", "GPU-bb")
CPUS = hardware(DeviceKind.CPU, None, None, None)
MODULE = ["-P", "-m", "deepspeed.launcher.runner"]


def test_gpus_are_named_by_index_and_mig_slices_by_uuid() -> None:
    assert device_names(GPUS) == ("4", "5")
    assert device_names(hardware(DeviceKind.CUDA, "MIG-bb")) == ("MIG-bb",)
    assert device_names(CPUS) == ()


def test_the_launcher_is_kept_to_this_machine_and_the_ranks_find_their_devices() -> None:
    arguments = launcher_arguments(GPUS, master_port=1234)
    pairs = dict(pairwise(arguments))
    assert pairs["--num_gpus"] == "2"
    assert pairs["--master_port"] == "1234"
    assert pairs["--hostfile"] == "/dev/null"
    assert arguments[-2:] == ["--module", "autofit.worker.train"]
    assert "--master_port" not in launcher_arguments(GPUS, master_port=None)
    given = training_arguments(GPUS, FILES)
    assert given[given.index("--devices") + 1] == "4,5"
    assert "--devices" not in training_arguments(CPUS, FILES)


def test_a_cpu_rank_is_told_how_much_it_may_hold() -> None:
    given = training_arguments(replace(CPUS, memory_limit_bytes=123_456_789), FILES)
    assert given[given.index("--device-memory") + 1] == "123456789"
    assert "--device-memory" not in training_arguments(GPUS, FILES)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """With `command.sh`, and a Python in a folder of tools that only says what it was given; no `deepspeed` there."""
    tools, folder = tmp_path / "my tools", tmp_path / "a run's folder"
    tools.mkdir()
    folder.mkdir()
    stub = tools / "python"
    stub.write_text(
        '#!/bin/sh\necho "in $PWD on $DS_ACCELERATOR with $PYTHONPATH, safe: $PYTHONSAFEPATH"\nprintf "%s\\n" "$@"\n'
    )
    stub.chmod(0o755)
    script = folder / "command.sh"
    script.write_text(command_script(GPUS, [str(stub), *MODULE], package_folders="/some where:/else"))
    script.chmod(0o755)
    return folder


def rerun(folder: Path, *words: str) -> list[str]:
    return subprocess.run(
        [folder / "command.sh", *words], cwd="/", stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "out"),
    [((), "rerun"), (("once more",), "once more"), (("../beside",), "../beside"), (("-$x's",), "{run}/-$x's")],
)
def test_the_script_starts_the_same_training_into_another_folder(
    run_folder: Path, words: tuple[str, ...], out: str
) -> None:
    out = out.replace("{run}", str(run_folder))
    first, *given = rerun(run_folder, *words)
    assert first == f"in {run_folder} on cuda with /some where:/else, safe: 1"
    assert given[: len(MODULE)] == MODULE
    arguments = given[len(MODULE) :]
    inside = {name: Path(out, name) for name in ("checkpoints", "model")}
    files = replace(
        FILES,
        request=Path("request.json"),
        choice=Path("choice.json"),
        deepspeed_config=Path("ds_config.json"),
        reports=Path(out),
        progress=Path(out, "progress.jsonl"),
        **inside,
    )
    assert arguments == [*launcher_arguments(GPUS, master_port=None), *training_arguments(GPUS, files)]
    assert (run_folder / out).is_dir()


@pytest.mark.parametrize("machine", [GPUS, CPUS], ids=["gpu", "cpu"])
def test_the_script_is_valid_for_any_shell(machine: Hardware, tmp_path: Path) -> None:
    script = command_script(machine, [str(tmp_path / 'odd --"$(name)" of tools/python'), *MODULE])
    checked = subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert f"DS_ACCELERATOR={machine.kind.value}" in script
    assert "PYTHONPATH" not in script
    assert not [line for line in script.splitlines() if line.startswith("  ") and len(line) > 120]


def test_without_an_engine_no_configuration_of_deepspeeds_is_named() -> None:
    assert "--deepspeed_config" not in training_arguments(GPUS, replace(FILES, deepspeed_config=None))
    script = command_script(GPUS, ["python", *MODULE], has_engine=False)
    assert "ds_config.json" not in script
    assert "--num_gpus 2" in script


def test_the_script_fails_as_the_training_fails(run_folder: Path) -> None:
    (run_folder.parent / "my tools/python").write_text("#!/bin/sh\nexit 7\n")
    ended = subprocess.run([run_folder / "command.sh"], check=False)
    assert ended.returncode == 7

"""What torch is told of the host memory that it pins, beside what its user says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from autofit.domain.hardware import DeviceKind
from autofit.process.pinned_allocator import WORDS, exact_pins, exact_pins_script, has_exact_pins
from autofit.process.python import script_environment, worker_environment
from tests.fake_packages import write_packages

OWN = "expandable_segments:True"


@pytest.fixture(params=["2.12.1", "2.13.0+cu130"])
def torch(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The version of torch that is installed."""
    write_packages(tmp_path, torch=request.param)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    return str(request.param)


CASES = [
    ({}, WORDS),
    ({"PYTORCH_ALLOC_CONF": OWN}, f"{OWN},{WORDS}"),
    ({"PYTORCH_CUDA_ALLOC_CONF": OWN}, f"{OWN},{WORDS}"),
    ({"PYTORCH_ALLOC_CONF": "pinned_max_cached_size_mb:64"}, "pinned_max_cached_size_mb:64"),
]


@pytest.mark.parametrize(("said", "expected"), CASES, ids=["nothing", "own", "older name", "own keys"])
def test_it_is_added_to_what_the_user_says_where_torch_knows_it(
    said: dict[str, str], expected: str, torch: str
) -> None:
    added = exact_pins(said)
    seen = (said | added).get("PYTORCH_ALLOC_CONF")
    if torch.startswith("2.12"):
        assert not added
        assert not has_exact_pins(said)
        assert exact_pins_script() == ""
    else:
        assert seen == expected
        assert has_exact_pins(said) is (WORDS in expected)
        shell = f"unset PYTORCH_ALLOC_CONF PYTORCH_CUDA_ALLOC_CONF; {_exports(said)}{exact_pins_script()}"
        told = subprocess.run(
            ["sh", "-euc", f'{shell}printf %s "$PYTORCH_ALLOC_CONF"'], capture_output=True, text=True, check=True
        )
        assert told.stdout == expected


def _exports(variables: dict[str, str]) -> str:
    return "".join(f"export {name}={value}; " for name, value in variables.items())


def test_ranks_on_gpus_are_told_and_scripts_are_left_alone(torch: str) -> None:
    told = {kind: worker_environment(kind).get("PYTORCH_ALLOC_CONF") for kind in DeviceKind}
    assert told == {DeviceKind.CPU: None, DeviceKind.CUDA: None if torch.startswith("2.12") else WORDS}
    assert "PYTORCH_ALLOC_CONF" not in script_environment(DeviceKind.CUDA)

"""A script of the user's finds what a plain Python would find, however the process around it was started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_RUN = (
    "import sys; from autofit.worker.script.python_main import run_as_main; run_as_main(sys.argv[1], [], is_module={})"
)
needs_safe_path = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no -P")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "job").mkdir()
    (tmp_path / "job/neighbour.py").write_text("print('found')\n")
    (tmp_path / "job/script.py").write_text("import neighbour\n")
    return tmp_path


def run(place: Path, name: str, *, is_module: bool, variables: dict[str, str] | None = None) -> str:
    """In the working directory `place`, in a process that was started without that on its path."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), **(variables or {})}
    command = [sys.executable, "-P", "-c", _RUN.format(is_module), name]
    return subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, check=False
    ).stdout.strip()


@needs_safe_path
def test_a_script_finds_its_neighbours_and_a_module_those_of_the_working_directory(place: Path) -> None:
    assert run(place, "job/script.py", is_module=False) == "found"
    assert run(place / "job", "script", is_module=True) == "found"


@needs_safe_path
def test_unless_the_user_wants_a_safe_path(place: Path) -> None:
    assert run(place, "job/script.py", is_module=False, variables={"PYTHONSAFEPATH": "1"}) == ""
    assert run(place, "job/script.py", is_module=False, variables={"PYTHONSAFEPATH": ""}) == "found"

"""This Python started anew: what lies in the working directory does not stand for a library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from autofit.process import python
from autofit.process.python import SAFE_PATH, module_command, package_folders

needs_safe_path = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no -P")


@pytest.fixture
def shadowed(tmp_path: Path) -> Path:
    """A folder with a user's file that is called like a module of Python."""
    (tmp_path / "json.py").write_text("raise SystemExit('this is a user's file')\n")
    return tmp_path


@needs_safe_path
def test_a_module_is_not_taken_from_the_working_directory(shadowed: Path) -> None:
    subprocess.run([*module_command("json.tool"), "--help"], cwd=shadowed, stdout=subprocess.DEVNULL, check=True)


_ARGUMENTS = "import sys; print(sys.argv[1:], __name__); assert '' not in sys.path"


def test_nor_is_it_by_a_python_that_knows_no_option_for_that(shadowed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python.sys, "version_info", (3, 10))
    (shadowed / "site").mkdir()
    (shadowed / "site/told.py").write_text(f"import json\n{_ARGUMENTS}\n")
    command, environment = [*module_command("told"), "a", "-b"], {**os.environ, "PYTHONPATH": str(shadowed / "site")}
    said = subprocess.run(command, cwd=shadowed, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    assert said.stdout == "['a', '-b'] __main__\n"


def test_nor_by_autofit_itself(shadowed: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "autofit", "show", "nowhere"]
    said = subprocess.run(command, cwd=shadowed, env=environment, capture_output=True, text=True, check=False)
    assert said.stderr.startswith("autofit: nowhere is no run folder"), said.stderr


@needs_safe_path
def test_nor_by_what_is_started_below_it(shadowed: Path) -> None:
    command = [sys.executable, "-m", "json.tool", "--help"]
    environment = dict(os.environ) | SAFE_PATH
    subprocess.run(command, cwd=shadowed, env=environment, stdout=subprocess.DEVNULL, check=True)
    assert subprocess.run(command, cwd=shadowed, stderr=subprocess.DEVNULL, check=False).returncode != 0


def test_the_folders_of_packages_are_told_as_absolute_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"site::{tmp_path}/else")
    assert package_folders() == f"{tmp_path}/site:{tmp_path}/else"
    monkeypatch.delenv("PYTHONPATH")
    assert package_folders() == ""

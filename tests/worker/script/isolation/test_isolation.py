"""A script that changes files in every way finds them changed, and the folder is afterwards what it was before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autofit.worker.script.isolation.overlay_view import is_within
from autofit.worker.script.isolation.real_folders import real_folders

SCRIPT = Path(__file__).parents[2] / "scripts/files.py"
PLAIN = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
ISOLATED = f"""
import json, sys
from pathlib import Path
from autofit.worker.script.isolation.isolation import isolate
scratch = Path(sys.argv.pop())
(scratch / "node0").mkdir(parents=True)
escapes = isolate(scratch, sys.argv[2])
{PLAIN}
print(json.dumps(escapes.paths))
print((scratch / "node0/view.json").read_text())
"""


def user_folder(home: Path) -> Path:
    for folder in ("moved", "old/sub"):
        (home / folder).mkdir(parents=True)
    for name in ("kept.log", "rotated.log", "moved/inside", "old/sub/file", "lonely", "touched"):
        (home / name).write_text("first")
    (home / "helper.py").write_text("")
    return home


def tree(folder: Path) -> dict[str, tuple[str | None, int]]:
    """Of every file and folder below: its text, and when it was changed (ns)."""
    return {
        str(path.relative_to(folder)): (path.read_text() if path.is_file() else None, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def run(program: str, *words: Path, **environment: str) -> list[Any]:
    temporary = words[0].parent / "tmp"
    temporary.mkdir(exist_ok=True)
    place = {"CROSS_RANK": "0", "LOCAL_RANK": "0", "RANK": "0", "TMPDIR": str(temporary)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(SCRIPT), *map(str, words)],
        env={**os.environ, **place, **environment},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(("{", "["))]


@pytest.mark.parametrize("overlay", ["1", "0"])
def test_a_script_finds_its_changes_and_its_folder_is_as_it_was(tmp_path: Path, overlay: str) -> None:
    home, twin = user_folder(tmp_path / "home"), user_folder(tmp_path / "twin")
    before = tree(home)
    found, escaped, view = run(ISOLATED, home, tmp_path / "scratch", AUTOFIT_OVERLAY=overlay)
    if overlay == "1" and not view["covered"]:
        pytest.skip("no overlay may be mounted here")
    assert bool(view["covered"]) == (overlay == "1")
    assert tree(home) == before
    assert escaped == []
    assert found == run(PLAIN, twin, PYTHONDONTWRITEBYTECODE="1")[0]


def test_what_is_written_past_python_is_noted_when_python_opens_it(tmp_path: Path) -> None:
    """`io.FileIO` is not led elsewhere; the audit hook hears it."""
    (tmp_path / "script.py").write_text("import io, sys; io.FileIO(sys.argv[1] + '/past', 'w').close()")
    program = ISOLATED.replace("sys.argv = sys.argv[1:]", f"sys.argv = [{str(tmp_path / 'script.py')!r}, sys.argv[2]]")
    home = user_folder(tmp_path / "home")
    escaped, _ = run(program, home, tmp_path / "scratch", AUTOFIT_OVERLAY="0")
    assert escaped == [str(home / "past")]


def test_caches_and_the_probes_own_folder_are_real(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {"HF_HOME": str(tmp_path / "hf"), "TORCH_HOME": str(tmp_path)}
    real = real_folders(environment, scratch, str(tmp_path / "project"))
    assert str(tmp_path) not in real, "the script lies there"
    assert {str(scratch), str(tmp_path / "hf"), "/dev", "/proc"} <= set(real)
    assert (tmp_path / "hf").is_dir()


def test_a_folder_is_not_within_one_whose_name_it_begins_with() -> None:
    assert is_within("/a/b", ("/a",))
    assert is_within("/a", ("/a",))
    assert not is_within("/ab", ("/a",))

"""A file of arguments beside a script's command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from autofit.inputs.script_recipe import read_recipe


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("a.yaml", "max_steps: 300\nlr: 1e-4\n", 300),
        ("a.json", '{"max_steps": 300, "output_dir": "out"}', 300),
        ("a.yaml", "- max_steps\n", None),
        ("a.yml", "max_steps: [", None),
        ("a.py", "max_steps: 300\n", None),
    ],
)
def test_arguments_in_a_file(tmp_path: Path, name: str, text: str, found: int | None) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert read_recipe(str(path)).get("max_steps") == found


def test_a_file_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert read_recipe(str(tmp_path / "a.yaml")) == {}

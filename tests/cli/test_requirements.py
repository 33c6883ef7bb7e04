"""A package that is too old: refused at the start, and told by `autofit doctor`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import end
from tests.fake_packages import write_packages

PIP = f"{sys.executable} -m pip install 'transformers>=5.23'"
_PROGRAM = """
import sys
from autofit.cli.main import main
try:
    main()
finally:
    print([name for name in ("torch", "rich", "psutil", "autofit.app.train") if name in sys.modules])
"""


@pytest.mark.parametrize("words", ["train --output-dir run", "train --output-dir run --dry-run", "plan --on 8xH100"])
def test_it_is_refused_before_anything_is_imported_or_started(tmp_path: Path, words: str) -> None:
    write_packages(tmp_path / "site", transformers="5.17.0")
    paths = [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *words.split(), "--model", "a-model"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    needs = "training needs transformers 5.23 or newer (5.17.0 is installed)"
    assert (done.returncode, done.stderr) == (2, f"autofit: {needs}: {PIP}\n")
    assert done.stdout.strip() == "[]"
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


@pytest.fixture
def old_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    write_packages(tmp_path, transformers="5.17.0", flash_attn="2.1.0")


def doctor(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert end("doctor", *words) == 1
    return capsys.readouterr().out


@pytest.mark.usefixtures("old_transformers")
def test_the_doctor_tells_it_once_with_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(doctor(capsys).split())
    here = "too old transformers 5.23 or newer, 5.17.0 is here, for models and tokenizers"
    assert f"{here}: {PIP}" in text
    assert "optional flash-attn 2.3.3 or newer, 2.1.0 is here, for flash_attention_2" in text
    assert "transformers 5.17" not in text


@pytest.mark.usefixtures("old_transformers")
def test_the_doctor_tells_it_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    findings = {finding["name"]: finding for finding in json.loads(doctor(capsys, "--json"))["toolchain"]}
    assert findings["transformers"] == {
        "type": "Finding", "name": "transformers", "version": "5.17.0", "least": "5.23", "is_too_old": True,
        "is_present": True, "is_optional": False, "needed_for": "models and tokenizers", "how_to_get": PIP,
    }  # fmt: skip
    assert not findings["trl"]["is_too_old"]

"""The whole command with a model of the hub on two CPU ranks: its weights come while it searches, once for all."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.stand_in_hub import StandInHub, stand_in_hub

pytestmark = pytest.mark.slow

MODEL = Path(__file__).parents[1] / "examples/tiny-llama"
ASKED, MEANT = "meta-llama/Llama-2-13b", "meta-llama/Llama-2-13b-hf"
WEIGHTS = "model.safetensors"


def command(hub: StandInHub, folder: Path) -> subprocess.Popen[str]:
    """`autofit train` of the id that has no config.json, as a process that speaks in plain lines."""
    words = ["--seq", "256", "--batch-size", "8", "--ranks", "2", "--max-steps", "2"]
    words += ["--output-dir", str(folder / "run")]
    pins = ["--method", "full", "--zero-stage", "2", "--micro-batch", "2", "--gradient-checkpointing", "off"]
    pins += ["--tolerance", "1%"]  # else so short a training starts without a probe
    patient = {"HF_HUB_DOWNLOAD_TIMEOUT": "600"}
    return subprocess.Popen(
        [sys.executable, "-m", "autofit", "train", "--model", ASKED, *words, *pins],
        env={**os.environ, **hub.environment(folder / "cache"), **patient},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def number(lines: list[str], begin: str) -> int:
    """Which of the lines is the first with this beginning."""
    return next(index for index, line in enumerate(lines) if line.startswith(begin))


def test_weights_come_while_it_searches_and_no_rank_asks_for_them(tmp_path: Path) -> None:
    with stand_in_hub() as hub:
        hub.add(ASKED, {"consolidated.00.pth": b"0", "params.json": b"{}"})
        hub.add(MEANT, MODEL)
        held = hub.released[WEIGHTS] = threading.Event()
        lines: list[str] = []
        with command(hub, tmp_path) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                if line.startswith("learns"):  # what was asked for until here is what the survey needs
                    hub.asked.clear()
                if line.startswith("probe"):
                    assert not held.is_set()
                    held.set()
        text = "".join(lines)
        assert process.returncode == 0, text
        assert f"{ASKED} has no config.json; its transformers format lies in {MEANT}, which is used." in text
        assert number(lines, "weights  56.7 MB of") < number(lines, "probe") < number(lines, "training")
        arrived = next(index for index, line in enumerate(lines) if "are here, after" in line)
        assert number(lines, "probe") < arrived < number(lines, "training")
        assert hub.asked == [one for one in hub.asked if one.path.endswith(WEIGHTS)]
        assert (tmp_path / "run/model/model.safetensors").is_file()
        assert f'"model": "{MEANT}"' in (tmp_path / "run/request.json").read_text()

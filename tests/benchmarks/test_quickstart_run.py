"""The quickstart's training, timed from outside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import _quickstart_run
import pytest
from _quickstart_run import HERE, Marks, compare, flags_of


def test_the_flags_are_the_quickstarts_own() -> None:
    flags = flags_of((HERE / "bin/quickstart").read_text())
    assert flags[:2] == ["--model", "examples/tiny-llama"]
    assert "--memory-limit" in flags
    assert not any("$" in word or "\n" in word for word in flags)


def test_a_step_is_marked_when_its_whole_line_is_first_seen(tmp_path: Path) -> None:
    path, clock = tmp_path / "progress.jsonl", [0.0]
    marks = Marks(path, lambda: clock[0])

    def write(text: str, at_s: float) -> tuple[float | None, float | None]:
        clock[0] = at_s
        with path.open("a") as file:
            file.write(text)
        marks.look()
        return marks.first_at_s, marks.last_at_s

    assert write("", 1.0) == (None, None)
    assert write('{"type": "Note", "text": "waiting"}\n' + _step(0), 2.0) == (None, None)
    assert write(_step(1)[:20], 3.0) == (None, None)
    assert write(_step(1)[20:], 4.0) == (4.0, None)
    assert write(_step(2) + _step(2), 5.0) == (4.0, 5.0)
    assert write(_step(2), 6.0) == (4.0, 5.0)


def _step(number: int) -> str:
    return json.dumps({"type": "TrainingProgress", "step": number, "step_count": 2}) + "\n"


# Stands for autofit: two steps, of which the first comes late where nothing is remembered.
STAND_IN = """
import json, os, sys, time
from pathlib import Path
assert "PYTHONDONTWRITEBYTECODE" not in os.environ
logs = Path(sys.argv[sys.argv.index("--output-dir") + 1], "logs")
logs.mkdir(parents=True)
remembered = Path(os.environ["XDG_CACHE_HOME"], "remembered")
time.sleep({late_s} if not remembered.exists() else 0.0)
remembered.touch()
for step in range(3):
    with (logs / "progress.jsonl").open("a") as file:
        file.write(json.dumps({{"type": "TrainingProgress", "step": step, "step_count": 2}}) + "\\n")
time.sleep(0.2)  # it saves
sys.exit({code})
"""


def _tree(root: Path, late_s: float, code: int = 0) -> Path:
    (root / "autofit").mkdir(parents=True)
    (root / "autofit/__init__.py").touch()
    (root / "autofit/__main__.py").write_text(STAND_IN.format(late_s=late_s, code=code))
    return root


def test_checkouts_train_in_turns_with_a_store_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_quickstart_run, "make_model", lambda: None)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    trees = {"here": _tree(tmp_path / "here", 0.0), "beside": _tree(tmp_path / "beside", 1.0)}
    found: dict[str, Any] = compare(trees, 2)
    told = [line.split(": ")[0] for line in capsys.readouterr().err.splitlines()]
    both = [f"{name}, {store}" for name in trees for store in ("cold", "warm")]
    assert told == [f"round 1, {one}" for one in both] + [f"round 2, {one}" for one in both[2:] + both[:2]]
    assert found["median"]["beside"]["cold"]["to_first_step_s"] > 1.0
    ratio = found["median"]["here"]["cold"]["total_s"] / found["median"]["beside"]["cold"]["total_s"]
    assert found["ratios"]["here / beside"]["cold"]["total_s"] == pytest.approx(ratio, abs=0.01)


def test_a_training_that_fails_is_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_quickstart_run, "make_model", lambda: None)
    with pytest.raises(SystemExit, match="has not trained"):
        compare({"here": _tree(tmp_path / "here", 0.0, code=1)}, 1)

"""The quickstart's training, timed from outside."""

from __future__ import annotations

import json
from pathlib import Path

from _quickstart_run import HERE, Marks, flags_of


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

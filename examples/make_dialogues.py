"""Writes the example data: short dialogues with their summaries, the same ones each time.

    python examples/make_dialogues.py            write the files
    python examples/make_dialogues.py --check    exit 1 if a file is not what would be written

This script is the source of truth; the files it writes are committed for those who only want to look at them.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from dialogue_scenes import PEOPLE, SCENES, SLOTS, Beat, Scene

HERE = Path(__file__).resolve().parent
SEED = 20240501
TRAIN_COUNT, EVAL_COUNT = 400, 40
LEAST_TURNS = 3
CUE = "\n\nSummary:\n"


def files() -> dict[Path, str]:
    """What each file holds; the package ships the training rows too, for `autofit train` without --data."""
    rows = dialogues(TRAIN_COUNT + EVAL_COUNT, SEED)
    train, evaluation = as_lines(rows[:TRAIN_COUNT]), as_lines(rows[TRAIN_COUNT:])
    return {
        HERE / "dialogues.jsonl": train,
        HERE / "dialogues-eval.jsonl": evaluation,
        HERE.parent / "autofit" / "worker" / "data" / "sample.jsonl": train,
    }


def dialogues(count: int, seed: int) -> list[dict[str, str]]:
    """`count` different dialogues as rows of `prompt` (the dialogue and a cue) and `completion` (its summary)."""
    rng = random.Random(seed)
    rows: dict[str, str] = {}
    while len(rows) < count:
        prompt, completion = _dialogue(rng)
        rows.setdefault(prompt, completion)
    return [{"prompt": prompt, "completion": completion} for prompt, completion in rows.items()]


def _dialogue(rng: random.Random) -> tuple[str, str]:
    beats = _beats(rng, rng.choice(SCENES))
    values = _values(rng)
    turns = [_turn(turn, values) for beat in beats for turn in beat.turns]
    summary = " ".join(_sentence(beat.summary, values) for beat in beats)
    return "\n".join(turns) + CUE, summary


def _beats(rng: random.Random, scene: Scene) -> list[Beat]:
    opening, further = rng.choice(scene.openings), [beat for beat in scene.beats if rng.random() < 0.5]
    if len(opening.turns) < LEAST_TURNS and not further:
        further = [rng.choice(scene.beats)]
    return [opening, *further]


def _values(rng: random.Random) -> dict[str, str]:
    first = rng.choice(PEOPLE)
    second = rng.choice([name for name in PEOPLE if name != first])
    return {"a": first, "b": second, **{slot: rng.choice(choices) for slot, choices in SLOTS.items()}}


def _turn(turn: str, values: dict[str, str]) -> str:
    speaker, words = turn.split(": ", 1)
    return f"{values[speaker]}: {_sentence(words, values)}"


def _sentence(template: str, values: dict[str, str]) -> str:
    words = template.format_map(values)
    return words[0].upper() + words[1:]


def as_lines(rows: Sequence[Mapping[str, object]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main(arguments: list[str]) -> int:
    return write_or_check(files(), arguments)


def write_or_check(files: Mapping[Path, str], arguments: list[str]) -> int:
    """Writes what is stale of `files`, or with --check only tells of it: the exit status."""
    stale = [path for path, content in files.items() if not path.exists() or path.read_text("utf-8") != content]
    if "--check" not in arguments:
        for path in stale:
            path.write_text(files[path], "utf-8")
    for path in stale:
        print(f"{'differs' if '--check' in arguments else 'written'}: {path.relative_to(HERE.parent)}")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Writes the example data of preferences: questions with a better and a worse answer, the same ones each time.

    python examples/make_preferences.py            write the files
    python examples/make_preferences.py --check    exit 1 if a file is not what would be written

The better answer is short, friendly and says what was asked; the worse one rambles and says it nowhere. This script is
the source of truth; the files it writes are committed for those who only want to look at them.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from dialogue_scenes import PEOPLE, SLOTS
from make_dialogues import as_lines, write_or_check

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parent / "autofit" / "worker" / "data"
SEED = 20240611
COUNT, PROMPT_COUNT = 160, 120
CUE = "\n\nAnswer:\n"

# What is asked, and the words that answer it.
QUESTIONS = (
    ("When can we meet at {place}?", "on {day} at {hour}"),
    ("Where did you find {gift} for your {relative}?", "at {place}"),
    ("Who repairs {machine}?", "{b}"),
    ("When does the {course} course begin?", "on {day} at {late}"),
    ("What is still missing for {dish}?", "{missing}"),
    ("Which city is the train to?", "{city}"),
    ("What is the report about?", "{subject}"),
    ("Who looks after {animal} while you are away?", "my {relative}"),
    ("Which book did you lend to {b}?", "{book}"),
    ("What colour will the {room} be?", "{colour}"),
    ("Where did you park the {vehicle}?", "by {place}"),
    ("What grows on your balcony?", "{plant}"),
    ("What do you play on {day}?", "{sport}"),
)
FRIENDLY = ("Gladly: {answer}.", "Thank you for asking: {answer}.", "With pleasure: {answer}.", "Of course: {answer}.")
RAMBLING = (
    "well, that is a question which one could answer in many ways",
    "I was thinking about something quite similar the other day",
    "it all depends on how one looks at it, as so many things do",
    "somebody told me once, but I do not remember who it was",
    "there was a time when nobody would have asked such a thing",
    "before I say anything I should perhaps begin at the beginning",
    "and then again it may have been altogether different",
    "which reminds me of another story, a long one",
)


def files() -> dict[Path, str]:
    """What each file holds; the package ships the samples, for `autofit train --task …` without --data."""
    rows = preferences(COUNT, SEED)
    pairs = as_lines([{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows])
    return {
        HERE / "preferences.jsonl": pairs,
        SAMPLES / "sample-preferences.jsonl": pairs,
        SAMPLES / "sample-judged.jsonl": as_lines(judged(rows)),
        SAMPLES / "sample-prompts.jsonl": as_lines(
            [{name: row[name] for name in ("prompt", "answer")} for row in rows[:PROMPT_COUNT]]
        ),
    }


def preferences(count: int, seed: int) -> list[dict[str, str]]:
    """`count` different questions as rows of `prompt`, `chosen`, `rejected`, and `answer`, the words that are right."""
    rng = random.Random(seed)
    rows: dict[str, dict[str, str]] = {}
    while len(rows) < count:
        row = _row(rng)
        rows.setdefault(row["prompt"], row)
    return list(rows.values())


def judged(rows: list[dict[str, str]]) -> list[dict[str, object]]:
    """One answer to each question, a good and a bad one in turn."""
    kinds = [("chosen", True), ("rejected", False)]
    chosen = [(row, *kinds[number % 2]) for number, row in enumerate(rows)]
    return [{"prompt": row["prompt"], "completion": row[name], "label": label} for row, name, label in chosen]


def _row(rng: random.Random) -> dict[str, str]:
    first, second = rng.sample(PEOPLE, 2)
    values = {"b": second, **{slot: rng.choice(choices) for slot, choices in SLOTS.items()}}
    question, answer = (words.format_map(values) for words in rng.choice(QUESTIONS))
    rambling = ", ".join(rng.sample(RAMBLING, rng.randint(1, 2)))
    return {
        "prompt": f"{first}: {question}{CUE}",
        "chosen": rng.choice(FRIENDLY).format(answer=answer),
        "rejected": f"{rambling[0].upper()}{rambling[1:]}.",
        "answer": answer,
    }


def main(arguments: list[str]) -> int:
    return write_or_check(files(), arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

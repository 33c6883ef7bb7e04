"""Functions that reward answers, for `autofit train --task grpo --reward examples/rewards.py:brief`.

trl calls one with the answers, as texts or as messages, and with every column of the data, a value for each answer:
`prompts`, and here `answer`. It returns a number for each answer, and None where it has nothing to say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Completion = str | list[dict[str, str]]
WORDS = 12  # of an answer that is long enough
FRIENDLY = ("gladly", "thank you", "with pleasure", "of course")


def brief(completions: Sequence[Completion], **columns: object) -> list[float]:
    """1 for a short answer, and less with each word that it has too many; nothing for one without a word."""
    counts = [len(said(completion).split()) for completion in completions]
    return [math.exp(-max(0, count - WORDS) / WORDS) if count else 0.0 for count in counts]


def friendly(completions: Sequence[Completion], **columns: object) -> list[float]:
    """1 for an answer that begins with a friendly word, else 0."""
    return [float(said(completion).lstrip().lower().startswith(FRIENDLY)) for completion in completions]


def right(
    completions: Sequence[Completion], answer: Sequence[str | None] | None = None, **columns: object
) -> list[float | None]:
    """1 for an answer that holds the words of the column `answer`, else 0; None where the data has none."""
    known = answer or [None] * len(completions)
    pairs = zip(completions, known, strict=True)
    return [None if words is None else float(words in said(completion)) for completion, words in pairs]


def said(completion: Completion) -> str:
    """The words of an answer: a text, or messages."""
    return completion if isinstance(completion, str) else "".join(turn["content"] for turn in completion)

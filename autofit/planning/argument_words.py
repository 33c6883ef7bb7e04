"""What was said of one training argument among the words after `--`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_TRUE = {"", "true", "t", "yes", "y", "1"}
"""How transformers' parser reads a switch, which says yes without a value (string_to_bool in hf_argparser.py)."""


def values_of(words: Sequence[str], name: str) -> Iterator[str]:
    """The values of the argument `name`, written with underscores, in their order; "" where none follows it."""
    spellings = (f"--{name}", f"--{name.replace('_', '-')}")
    for word, following in zip(words, (*words, "")[1:], strict=True):
        spelled, equals, value = word.partition("=")
        if spelled in spellings:
            yield value if equals else "" if following.startswith("--") else following


def is_switched_on(words: Sequence[str], name: str, *, by_itself: bool = False) -> bool:
    """Whether the last word on the switch `name` says yes; without one it is as it is `by_itself`."""
    said = [*values_of(words, name)]
    return said[-1].lower() in _TRUE if said else by_itself

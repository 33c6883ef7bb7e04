"""Commands as people paste them into a shell, whatever the names in them hold."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import PurePath

_CONTROL_ENDS = 0x20


def shell_word(text: str | PurePath) -> str:
    """One word of a command line, quoted where it needs that, and on one line: in a name with a newline or another
    control character those are written as bash and zsh read them."""
    word = str(text)
    if all(ord(letter) >= _CONTROL_ENDS for letter in word):
        return shlex.quote(word)
    return "$'" + "".join(map(_escaped, word)) + "'"


def path_word(path: str | PurePath) -> str:
    """A path as a word that no program takes for an option."""
    return shell_word(f"./{path}" if str(path).startswith("-") else path)


def shell_line(words: Iterable[str]) -> str:
    """A command line of these words, each quoted where it needs that."""
    return " ".join(map(shell_word, words))


def _escaped(letter: str) -> str:
    if ord(letter) < _CONTROL_ENDS:
        return f"\\{ord(letter):03o}"
    return "\\" + letter if letter in "'\\" else letter

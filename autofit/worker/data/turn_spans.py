"""Which tokens of a chat are the assistant's: by marks in the template, or by how the chat reads as it grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from trl.chat_template_utils import get_training_chat_template, has_generation_markers
from trl.data_utils import common_prefix_length

from autofit.domain.workload import Learned

from .chat_writer import ChatWriter, Message


class UntoldError(ValueError):
    """The turns of this chat cannot be told apart."""


@dataclass(frozen=True)
class Spans:
    """A chat's tokens, and the ranges of them that are the assistant's.

    `are_turns`: each range is one turn of the assistant's, so that one of them can be left out.
    """

    ids: list[int]
    ranges: list[range]
    are_turns: bool


class Finder(Protocol):
    """Finds the assistant's tokens of a chat; UntoldError where it cannot, or whatever the template raises.

    `template` is the one that its chats are written by, None for the tokenizer's own.
    """

    learned: Learned
    template: str | None

    def __call__(self, messages: Sequence[Message]) -> Spans: ...


class MarkedTurns:
    """Finds turns by {% generation %} in `template`, or in the tokenizer's own where that is None."""

    def __init__(self, writer: ChatWriter, template: str | None) -> None:
        self.learned = Learned.MARKED_TURNS if template is None else Learned.TWIN_TURNS
        self.template = template
        self._writer = writer

    def __call__(self, messages: Sequence[Message]) -> Spans:
        said = self._writer.encoding(messages, chat_template=self.template, return_assistant_tokens_mask=True)
        ranges = _runs(said["assistant_masks"])
        if not ranges:
            raise UntoldError
        return Spans(list(said["input_ids"]), ranges, len(ranges) == sum(map(_is_assistant, messages)))


class ComparedTurns:
    """Finds turns by how the chat grows: a turn is what the chat gains by it, after the words that ask for it.

    It works where the template writes what came earlier the same whatever follows.
    """

    learned = Learned.COMPARED_TURNS
    template: str | None = None

    def __init__(self, writer: ChatWriter) -> None:
        self._writer = writer
        self._tokenizer = writer.tokenizer

    def __call__(self, messages: Sequence[Message]) -> Spans:
        whole = self._writer.text(messages)
        places = [self._turn_range(messages, i, whole) for i, turn in enumerate(messages) if _is_assistant(turn)]
        encoding = self._tokenizer(whole, add_special_tokens=False)
        ids = list(encoding["input_ids"])
        ranges = [range(self._token(encoding, whole, a), self._token(encoding, whole, b)) for a, b in places]
        return Spans(ids, ranges, are_turns=True)

    def _turn_range(self, messages: Sequence[Message], i: int, whole: str) -> tuple[int, int]:
        """The range of the i-th turn in `whole` (characters)."""
        try:
            before = self._writer.text(messages[:i])
            asking = self._writer.text(messages[:i], add_generation_prompt=True)
            until = self._writer.text(messages[: i + 1])
        except Exception as error:  # a template may refuse a chat that ends so, or an empty one
            raise UntoldError from error
        start = common_prefix_length(asking, whole)
        if not (whole.startswith(before) and whole.startswith(until) and len(before) <= start < len(until)):
            raise UntoldError
        return start, len(until)

    def _token(self, encoding: Any, whole: str, place: int) -> int:
        """The token that holds the character at `place`, or the first one after it."""
        ids = encoding["input_ids"]
        if not self._tokenizer.is_fast:
            return int(common_prefix_length(self._tokenizer(whole[:place], add_special_tokens=False)["input_ids"], ids))
        tokens = (encoding.char_to_token(at) for at in range(place, len(whole)))
        return next((token for token in tokens if token is not None), len(ids))


class EveryTurn:
    """Finds one span, the whole chat, as the tokenizer's own template writes it."""

    learned = Learned.EVERYTHING
    template: str | None = None

    def __init__(self, writer: ChatWriter) -> None:
        self._writer = writer

    def __call__(self, messages: Sequence[Message]) -> Spans:
        ids = list(self._writer.encoding(messages)["input_ids"])
        return Spans(ids, [range(len(ids))], are_turns=False)


def finder(writer: ChatWriter) -> Finder:
    """The best of the ways that the tokenizer's chat template allows."""
    tokenizer = writer.tokenizer
    if not tokenizer.is_fast:
        return ComparedTurns(writer)  # marks are places in a text, and only a fast tokenizer knows their tokens
    if has_generation_markers(tokenizer.chat_template):
        return MarkedTurns(writer, None)
    try:
        twin = get_training_chat_template(tokenizer)
    except Exception:  # trl knows no twin of it, or the template refuses what trl tries it with
        twin = None
    return ComparedTurns(writer) if twin is None else MarkedTurns(writer, twin)


def _runs(mask: Sequence[int]) -> list[range]:
    """The ranges in which `mask` is 1."""
    edges = [i for i, (a, b) in enumerate(zip([0, *mask], [*mask, 0], strict=True)) if a != b]
    return [range(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def _is_assistant(message: Message) -> bool:
    return bool(message["role"] == "assistant")

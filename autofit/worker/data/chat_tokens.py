"""A chat to tokens and labels: whose turns are learned, but for those that the row leaves out."""

from __future__ import annotations

from dataclasses import dataclass

from autofit.domain.request import Learn
from autofit.domain.workload import Learned
from autofit.planning.data.chat_turns import REASONING, BadRow, Turn
from autofit.planning.data.token_row import IGNORED

from .chat_writer import ChatWriter, Message
from .turn_end import turn_end, with_end
from .turn_spans import EveryTurn, Finder, Spans, UntoldError, finder


@dataclass(frozen=True)
class RowTokens:
    """The tokens and labels of a row: a label is its token, or IGNORED where nothing is learned. `unshown` is what the
    template leaves out."""

    ids: list[int]
    labels: list[int]
    is_untold: bool = False
    unshown: tuple[str, ...] = ()


class ChatTokenizer:
    """Makes tokens of turns; raises whatever the template raises over them, or BadRow."""

    def __init__(self, writer: ChatWriter, learn: Learn) -> None:
        self._writer = writer
        self._every = EveryTurn(writer)
        self._told: Finder = finder(writer)
        self._learn = learn
        self.end = turn_end(writer, self._every if learn is Learn.ALL else self._told)

    @property
    def learned(self) -> Learned:
        return Learned.EVERYTHING if self._learn is Learn.ALL else self._told.learned

    def __call__(self, turns: list[Turn]) -> RowTokens:
        messages = [_message(turn) for turn in turns]
        is_untold, template = False, None if self._learn is Learn.ALL else self._told.template
        try:
            ids, labels = self._labelled(messages, turns)
        except UntoldError:
            _refuse_marks(turns)
            is_untold, template = True, None
            ids = self._every(messages).ids
            labels = ids
        shown = self._writer.text(messages, chat_template=template)
        return RowTokens(ids, labels, is_untold, _unshown(turns, shown))

    def _labelled(self, messages: list[Message], turns: list[Turn]) -> tuple[list[int], list[int]]:
        if self._learn is Learn.ALL:
            ids = self._every(messages).ids
            return ids, ids if _are_all_learned(turns) else self._but_marked(ids, messages, turns)
        spans = self._spans(messages)
        is_learned = [False] * len(spans.ids)
        for one in _learned_ranges(spans, turns):
            is_learned[one.start : one.stop] = [True] * len(one)
        return spans.ids, [id if learn else IGNORED for id, learn in zip(spans.ids, is_learned, strict=True)]

    def _spans(self, messages: list[Message]) -> Spans:
        return with_end(self._told(messages), self.end.last if self.end is not None else None)

    def _but_marked(self, ids: list[int], messages: list[Message], turns: list[Turn]) -> list[int]:
        """The ranges of all of `ids` but for the assistant's turns that are marked as not to be learned."""
        if any(turn["is_learned"] is False and turn["role"] != "assistant" for turn in turns):
            raise BadRow("marks another's turn than the assistant's as not to be learned; leave --learn all out")
        spans = self._spans(messages)
        if spans.ids != ids:
            raise UntoldError
        kept = {id(one) for one in _learned_ranges(spans, turns)}
        left_out = {i for one in spans.ranges if id(one) not in kept for i in one}
        return [IGNORED if i in left_out else token for i, token in enumerate(ids)]


def _learned_ranges(spans: Spans, turns: list[Turn]) -> list[range]:
    """The ranges that are learned; UntoldError where one is to be left out and nobody knows which."""
    marks = [turn["is_learned"] for turn in turns if turn["role"] == "assistant"]
    if False not in marks:
        return spans.ranges
    if not spans.are_turns:
        raise UntoldError
    return [one for one, mark in zip(spans.ranges, marks, strict=True) if mark is not False]


def _are_all_learned(turns: list[Turn]) -> bool:
    return all(turn["is_learned"] is not False for turn in turns)


def _refuse_marks(turns: list[Turn]) -> None:
    if not _are_all_learned(turns):
        raise BadRow("has a turn that is not to be learned, but the chat template does not tell its turns apart")


def _message(turn: Turn) -> Message:
    """A turn as templates read it; what a model thought goes by several names."""
    message = {"role": turn["role"], "content": turn["content"]}
    return message if turn["reasoning"] is None else {**message, **dict.fromkeys(REASONING, turn["reasoning"])}


def _unshown(turns: list[Turn], shown: str) -> tuple[str, ...]:
    missing = [f"{turn['role']} turns" for turn in turns if str(turn["content"]).strip() not in shown]
    missing += ["reasoning" for turn in turns if str(turn["reasoning"] or "").strip() not in shown]
    return tuple(dict.fromkeys(missing))

"""The token that ends an assistant's turn: it must be learned, and generation must stop at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .chat_writer import ChatWriter, Message
from .turn_spans import EveryTurn, Finder, Spans, UntoldError

_ASKED: Message = {"role": "user", "content": "first words"}
_ANSWERED: Message = {"role": "assistant", "content": "second words"}


@dataclass(frozen=True)
class TurnEnd:
    """How turns end: `last` ends the last turn of a chat, None where the template writes no token of its own there.

    `learned` are all such tokens that are learned behind an answer, at a chat's end or amid it.
    """

    last: int | None
    learned: tuple[int, ...]

    def missing(self, eos_ids: Sequence[int]) -> int | None:
        """The token at which generation would have to stop and does not; None where it stops at one of `eos_ids`."""
        if not self.learned or set(self.learned) & set(eos_ids):
            return None
        return self.last if self.last in self.learned else self.learned[-1]


def turn_end(writer: ChatWriter, finder: Finder) -> TurnEnd | None:
    """The end of a turn as the template shows it on a small chat; None where it refuses that one."""
    chats = ([_ASKED, _ANSWERED], [_ASKED, _ANSWERED, _ASKED])
    try:
        last = _tail(writer, list(writer.encoding(chats[0], chat_template=finder.template)["input_ids"]))[:1]
        end = last[0] if last else None
        spans = [with_end(_spans(writer, finder, chat), end) for chat in chats]
    except Exception:  # a template may refuse any chat but the user's
        return None
    learned = [token for one in spans for token in _tail(writer, [one.ids[i] for i in one.ranges[0]])]
    return TurnEnd(end, tuple(dict.fromkeys(learned)))


def with_end(spans: Spans, end: int | None) -> Spans:
    """The spans with the token `end` where it stands right behind one: some templates mark a turn without its end."""
    return replace(spans, ranges=[_with_end(spans.ids, one, end) for one in spans.ranges])


def _spans(writer: ChatWriter, finder: Finder, chat: Sequence[Message]) -> Spans:
    try:
        return finder(chat)
    except UntoldError:
        return EveryTurn(writer)(chat)


def _with_end(ids: list[int], one: range, end: int | None) -> range:
    is_outside = one.stop < len(ids) and ids[one.stop] == end and ids[one.stop - 1] != end
    return range(one.start, one.stop + 1) if is_outside else one


def _tail(writer: ChatWriter, ids: list[int]) -> list[int]:
    """The tokens that only a template writes, from the end back to the first word; blanks do not count."""
    added = set(writer.tokenizer.get_added_vocab().values())
    tail = []
    for token in reversed(ids):
        if token in added:
            tail.append(token)
        elif writer.tokenizer.decode([token]).strip():
            break
    return tail

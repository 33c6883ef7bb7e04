"""A row to tokens and labels: a text, a prompt with its answer, a chat, or tokens already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase
from trl.data_utils import common_prefix_length

from autofit.domain.request import Learn
from autofit.domain.workload import Learned
from autofit.planning.columns import teaches
from autofit.planning.token_row import IGNORED
from autofit.planning.turns import REASONING, BadRow, Turn

from .chat_writer import ChatWriter, Message
from .turn_end import TurnEnd, turn_end, with_end
from .turn_spans import EveryTurn, Finder, Spans, UntoldError, finder


@dataclass(frozen=True)
class RowTokens:
    """A label is its token, or IGNORED where nothing is learned. `unshown` is what the template leaves out."""

    ids: list[int]
    labels: list[int]
    is_untold: bool = False
    unshown: tuple[str, ...] = ()


class RowTokenizer:
    """Called with an example of `to_example`; raises whatever tokenizer and template raise over it, or BadRow.

    Texts and answers end in the EOS token, as in trl's SFTTrainer, and begin with one BOS token where the tokenizer
    writes one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, learn: Learn, *, has_chats: bool) -> None:
        self.tokenizer = tokenizer
        self.learn = learn
        self._chats = _ChatTokenizer(ChatWriter(tokenizer), learn) if has_chats else None

    @property
    def turn_end(self) -> TurnEnd | None:
        """None where there are no chats."""
        return self._chats.end if self._chats else None

    def learned(self, example: Mapping[str, object]) -> Learned:
        """What is learned of examples like this one."""
        if self._chats:
            return self._chats.learned
        if "input_ids" in example:
            return Learned.LABELS
        return Learned.ANSWERS if "prompt" in example and self.learn is Learn.ASSISTANT else Learned.TEXTS

    def __call__(self, example: Mapping[str, Any]) -> RowTokens:
        if not teaches(example, learns_all=self.learn is Learn.ALL):
            return RowTokens([], [])
        if self._chats:
            return self._chats(example["messages"])
        if "input_ids" in example:
            return RowTokens(example["input_ids"], example["labels"])
        return self._pair(example["prompt"], example["completion"]) if "prompt" in example else self._text(example)

    def _text(self, example: Mapping[str, Any]) -> RowTokens:
        ids = self._ids(self._ended(example["text"]))
        return RowTokens(ids, ids)

    def _pair(self, prompt: str, completion: str) -> RowTokens:
        ids = self._ids(prompt + self._ended(completion))
        first = common_prefix_length(self._ids(prompt), ids) if self.learn is Learn.ASSISTANT else 0
        return RowTokens(ids, [IGNORED] * first + ids[first:])

    def _ended(self, text: str) -> str:
        end = self.tokenizer.eos_token
        return text if text.endswith(end) else text + end

    def _ids(self, text: str) -> list[int]:
        ids, bos = list(self.tokenizer(text)["input_ids"]), self.tokenizer.bos_token_id
        is_twice = bos is not None and ids[:2] == [bos, bos] and text.startswith(self.tokenizer.bos_token)
        return ids[1:] if is_twice else ids


class _ChatTokenizer:
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
        spans = with_end(self._told(messages), self.end.last)
        is_learned = [False] * len(spans.ids)
        for one in _learned_ranges(spans, turns):
            is_learned[one.start : one.stop] = [True] * len(one)
        return spans.ids, [id if learn else IGNORED for id, learn in zip(spans.ids, is_learned, strict=True)]

    def _but_marked(self, ids: list[int], messages: list[Message], turns: list[Turn]) -> list[int]:
        """All of `ids` but for the assistant's turns that are marked as not to be learned."""
        if any(turn["is_learned"] is False and turn["role"] != "assistant" for turn in turns):
            raise BadRow("marks another's turn than the assistant's as not to be learned; leave --learn all out")
        spans = with_end(self._told(messages), self.end.last)
        if spans.ids != ids:
            raise UntoldError
        kept = {id(one) for one in _learned_ranges(spans, turns)}
        left_out = {i for one in spans.ranges if id(one) not in kept for i in one}
        return [IGNORED if i in left_out else token for i, token in enumerate(ids)]


def _learned_ranges(spans: Spans, turns: list[Turn]) -> list[range]:
    """UntoldError where one is to be left out and nobody knows which."""
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
    """As templates read it; what a model thought goes by several names."""
    message = {"role": turn["role"], "content": turn["content"]}
    return message if turn["reasoning"] is None else {**message, **dict.fromkeys(REASONING, turn["reasoning"])}


def _unshown(turns: list[Turn], shown: str) -> tuple[str, ...]:
    missing = [f"{turn['role']} turns" for turn in turns if str(turn["content"]).strip() not in shown]
    missing += ["reasoning" for turn in turns if str(turn["reasoning"] or "").strip() not in shown]
    return tuple(dict.fromkeys(missing))

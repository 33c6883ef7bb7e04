"""A row to tokens and labels: a text, a prompt with its answer, a chat, or tokens already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase
from trl.data_utils import common_prefix_length

from autofit.domain.request import Learn
from autofit.domain.workload import Learned
from autofit.planning.data.example import teaches
from autofit.planning.data.token_row import IGNORED

from .chat_tokens import ChatTokenizer, RowTokens
from .chat_writer import ChatWriter
from .turn_end import TurnEnd


class RowTokenizer:
    """Makes tokens of an example of `to_example`; raises whatever tokenizer and template raise over it, or BadRow.

    Texts and answers end in the EOS token, as in trl's SFTTrainer, and begin with one BOS token where the tokenizer
    writes one.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, learn: Learn, *, has_chats: bool) -> None:
        self.tokenizer = tokenizer
        self.learn = learn
        self._chats = ChatTokenizer(ChatWriter(tokenizer), learn) if has_chats else None

    @property
    def turn_end(self) -> TurnEnd | None:
        """The end of a turn, None where there are no chats, or where the template does not show it."""
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

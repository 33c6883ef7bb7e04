"""Chats as a tokenizer's template writes them, as text and as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

Message = dict[str, Any]
_WORDS = "some words"


class ChatWriter:
    """Writes chats; `chat_template` and the other keywords are those of transformers' `apply_chat_template`."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._is_in_parts = False
        self._is_in_parts = not self._shows_words() and self._shows_words(is_in_parts=True)

    def text(self, messages: Sequence[Message], **how: Any) -> str:
        return str(self.tokenizer.apply_chat_template(self._formed(messages), tokenize=False, **how))

    def encoding(self, messages: Sequence[Message], **how: Any) -> Any:
        return self.tokenizer.apply_chat_template(self._formed(messages), return_dict=True, **how)

    def _formed(self, messages: Sequence[Message]) -> list[Message]:
        if not self._is_in_parts:
            return list(messages)
        return [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in messages]

    def _shows_words(self, *, is_in_parts: bool = False) -> bool:
        """Whether a template writes plain text: those of models that see images may want a list of parts, and pass it
        over."""
        content = [{"type": "text", "text": _WORDS}] if is_in_parts else _WORDS
        try:
            return _WORDS in self.text([{"role": "user", "content": content}])
        except Exception:  # what a template raises over a chat of one turn says nothing of the user's
            return False

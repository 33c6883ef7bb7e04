"""Which row a chat template refuses: trl makes the tokens of all of them, and does not say of which it stumbled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

from .loaded_data import LoadedData
from .located_rows import fault
from .prepared_rows import THEN, refusal

_ANSWERS = ("completion", "chosen", "rejected")


def check_templates(loaded: LoadedData, tokenizer: PreTrainedTokenizerBase) -> None:
    """Checks that the tokenizer's chat template takes all rows; UsageError names the first that it refuses."""
    if not loaded.data_format.is_conversational:
        return
    for index, row in enumerate(loaded.dataset):
        try:
            for messages, is_asking in _chats(row):
                tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=is_asking)
        except Exception as error:  # templates raise what they like over a row
            raise fault(loaded.where(index), refusal(error), THEN) from error


def _chats(row: Mapping[str, Any]) -> Iterator[tuple[list[Any], bool]]:
    """The chats that trl has the template write of a row, and whether each asks for an answer."""
    prompt = row.get("prompt", [])
    if prompt:
        yield prompt, True
    for name in _ANSWERS:
        if name in row:
            yield prompt + row[name], False

"""The plain chat template does what trl asks of one, and is set only where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from trl.chat_template_utils import (
    has_generation_markers,
    is_chat_template_prefix_preserving,
    is_chat_template_stop_token_trained,
)

from autofit.domain.errors import UsageError
from autofit.worker.data.chat_template import NOTE, ensure_chat_template

TINY_LLAMA = Path(__file__).parents[3] / "examples" / "tiny-llama"
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": " Hi\n"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "See you"},
]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = AutoTokenizer.from_pretrained(TINY_LLAMA, local_files_only=True)
    assert ensure_chat_template(tokenizer, is_conversational=True) == NOTE
    return tokenizer


def bare_tokenizer(**special_tokens: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE({chr(i): i for i in range(128)}, []))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special_tokens)


def test_trl_accepts_it(tokenizer: PreTrainedTokenizerFast) -> None:
    assert has_generation_markers(tokenizer.chat_template)
    assert is_chat_template_stop_token_trained(tokenizer)
    assert is_chat_template_prefix_preserving(tokenizer)


def test_the_text_is_plain_and_ends_the_assistants_turns(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.apply_chat_template(MESSAGES, tokenize=False) == (
        "<s>System:\nBe brief.\n\nUser:\n Hi\n\n\nAssistant:\nHello</s>\n\nUser:\nBye\n\nAssistant:\nSee you</s>"
    )


def test_the_assistants_words_and_nothing_else_are_learnt(tokenizer: PreTrainedTokenizerFast) -> None:
    rendered = tokenizer.apply_chat_template(
        MESSAGES, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    pairs = zip(rendered["input_ids"], rendered["assistant_masks"], strict=True)
    assert tokenizer.decode([token for token, is_learnt in pairs if is_learnt]) == "Hello</s>See you</s>"


def test_a_prompt_is_the_beginning_of_the_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    prompt = tokenizer.apply_chat_template(MESSAGES[:2], add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template(MESSAGES[:3], return_dict=False)
    assert whole[: len(prompt)] == prompt


def test_no_token_is_new(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) == len(AutoTokenizer.from_pretrained(TINY_LLAMA, local_files_only=True))


def test_a_bos_that_the_tokenizer_does_not_write_is_not_written() -> None:
    tokenizer = bare_tokenizer(bos_token="<b>", eos_token="<e>")
    ensure_chat_template(tokenizer, is_conversational=True)
    text = tokenizer.apply_chat_template(MESSAGES[1:3], tokenize=False)
    assert text == "User:\n Hi\n\n\nAssistant:\nHello<e>"


def test_a_template_that_is_there_stays() -> None:
    tokenizer = bare_tokenizer(eos_token="<e>")
    tokenizer.chat_template = "mine"
    assert ensure_chat_template(tokenizer, is_conversational=True) is None
    assert tokenizer.chat_template == "mine"


def test_plain_text_needs_none() -> None:
    tokenizer = bare_tokenizer()
    assert ensure_chat_template(tokenizer, is_conversational=False) is None
    assert tokenizer.chat_template is None


def test_without_an_end_of_sequence_token_it_refuses() -> None:
    with pytest.raises(UsageError, match="end-of-sequence"):
        ensure_chat_template(bare_tokenizer(), is_conversational=True)

"""A plain chat template for the tokenizers of base models, which have none."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from autofit.domain.errors import UsageError

# Roles are plain words on a line of their own: no token is new and no embedding untrained. An assistant's turn ends in
# the end-of-sequence token, inside the markers: trl masks the loss by them, and outside of them a model would never
# learn to stop. What follows a turn never changes how it is written, which trl needs to find where a prompt ends.
_TURNS = (
    "{%- for message in messages -%}"
    "{{- '' if loop.first else '\n\n' -}}"
    "{{- message['role'] | capitalize + ':\n' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{- message['content'] + eos_token -}}{%- endgeneration -%}"
    "{%- else -%}"
    "{{- message['content'] -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '\n\nAssistant:\n' -}}{%- endif -%}"
)
NOTE = "the tokenizer has no chat template: User:, Assistant: and an end-of-sequence token mark the turns"


def ensure_chat_template(tokenizer: PreTrainedTokenizerBase, is_conversational: bool) -> str | None:
    """Gives `tokenizer` a plain template if the data needs one and it has none; the note to show, or None.

    UsageError if there is no token that could end a turn.
    """
    if not is_conversational or tokenizer.chat_template:
        return None
    if tokenizer.eos_token is None:
        raise UsageError(
            "the model's tokenizer has neither a chat template nor an end-of-sequence token; "
            "set eos_token in its tokenizer_config.json."
        )
    tokenizer.chat_template = ("{{- bos_token -}}" if _starts_with_bos(tokenizer) else "") + _TURNS
    return NOTE


def _starts_with_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer opens a text with its bos token; a chat template has to do that by itself."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]

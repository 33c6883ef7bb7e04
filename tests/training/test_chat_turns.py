"""Of a chat the assistant's turns are learned, whatever its template: trl's own, and those written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trl
from transformers import PreTrainedTokenizer

from autofit.domain.request import Learn
from autofit.domain.workload import Learned
from autofit.planning.data.chat_turns import turn
from autofit.worker.data.chat_template import ensure_chat_template
from autofit.worker.data.chat_tokens import RowTokens
from autofit.worker.data.row_tokens import RowTokenizer
from tests.training.rows import IGNORED, by_trl, plain_tokenizer, tokenizer_with

SHIPPED = sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
ASKED, ANSWERED = ("Apples or pears?", "Grapes too?"), ("Neither of both.", "Perhaps plums.")
CHAT = [
    turn("user", ASKED[0]), turn("assistant", ANSWERED[0]),
    turn("user", ASKED[1]), turn("assistant", ANSWERED[1]),
]  # fmt: skip
MESSAGES = [{"role": turn["role"], "content": turn["content"]} for turn in CHAT]

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
STYLES = {
    "chatml": CHATML,
    "llama-2": (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}"
        "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
    "mistral": (
        "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}{% if m['role'] == 'user' %}"
        "{{ '[INST] ' + m['content'] + '[/INST]' }}{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}"
        "{% endfor %}"
    ),
    "zephyr": (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}"
        "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}"
    ),
    "vicuna": (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ 'USER: ' + m['content'] + ' ASSISTANT:' }}"
        "{% else %}{{ ' ' + m['content'] + eos_token + '\n' }}{% endif %}{% endfor %}"
    ),
    "headers": (
        "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' }}"
        "{{ m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "model's turn": (
        "{{ bos_token }}{% for m in messages %}{% set r = 'model' if m['role'] == 'assistant' else m['role'] %}"
        "{{ '<start_of_turn>' + r + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
    ),
    "instruction": (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ '### Instruction:\n' + m['content'] + '\n\n' }}"
        "{% else %}{{ '### Response:\n' + m['content'] + eos_token + '\n\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
    ),
    "own marks": (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% if m['role'] == 'assistant' %}{% generation %}"
        "{{ m['content'] }}<|end|>{% endgeneration %}{% else %}{{ m['content'] }}<|end|>{% endif %}{% endfor %}"
    ),
    "own marks without the end": (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% if m['role'] == 'assistant' %}{% generation %}"
        "{{ m['content'] }}{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}<|end|>{% endfor %}"
    ),
    "parts": (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{% for part in m['content'] %}{{ part['text'] }}"
        "{% endfor %}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
}  # fmt: skip
COUNTS_TURNS = "{{ messages | length }} turns\n" + CHATML
ENDS_OTHERWISE = CHATML.replace("{% endfor %}", "{{ '!' if loop.last and m['role'] == 'assistant' }}{% endfor %}")


def rows_of(template: str, learn: Learn = Learn.ASSISTANT) -> RowTokenizer:
    return RowTokenizer(tokenizer_with(template), learn, has_chats=True)


def words(tokenize: RowTokenizer, made: RowTokens, *, are_learned: bool) -> str:
    chosen = [token for token, label in zip(made.ids, made.labels, strict=True) if (label != IGNORED) is are_learned]
    return str(tokenize.tokenizer.decode(chosen))


def check_only_answers(tokenize: RowTokenizer) -> None:
    made = tokenize({"messages": CHAT})
    assert not made.is_untold
    assert made.unshown == ()
    taught, read = (words(tokenize, made, are_learned=are) for are in (True, False))
    assert all(answer in taught and answer not in read for answer in ANSWERED)
    assert all(question in read and question not in taught for question in ASKED)
    assert all(label in (token, IGNORED) for token, label in zip(made.ids, made.labels, strict=True))
    last = tokenize({"messages": [*CHAT[:3], {**CHAT[3], "is_learned": False}]})
    assert last.ids == made.ids
    assert ANSWERED[0] in words(tokenize, last, are_learned=True)
    assert ANSWERED[1] in words(tokenize, last, are_learned=False)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_of_every_template_that_trl_ships_only_the_answers_are_learned(path: Path) -> None:
    tokenize = rows_of(path.read_text("utf-8"))
    check_only_answers(tokenize)
    assert tokenize.turn_end is not None
    assert tokenize.turn_end.learned, "nothing that ends a turn is learned"


@pytest.mark.parametrize("style", STYLES)
def test_of_every_style_only_the_answers_are_learned(style: str) -> None:
    tokenize = rows_of(STYLES[style])
    check_only_answers(tokenize)
    assert tokenize.turn_end is not None
    (end,) = tokenize.turn_end.learned
    made = tokenize({"messages": CHAT})
    assert sum(label == end for label in made.labels) == 2, "each answer ends in it, and nothing else does"


def test_the_template_of_tokenizers_without_one_teaches_the_answers() -> None:
    tokenizer = plain_tokenizer()
    ensure_chat_template(tokenizer, is_conversational=True)
    check_only_answers(RowTokenizer(tokenizer, Learn.ASSISTANT, has_chats=True))


@pytest.mark.parametrize("template", [COUNTS_TURNS, ENDS_OTHERWISE])
def test_turns_that_cannot_be_told_apart_are_all_learned_and_said_to_be(template: str) -> None:
    made = rows_of(template)({"messages": CHAT})
    assert made.is_untold
    assert made.labels == made.ids
    with pytest.raises(ValueError, match="does not tell its turns apart"):
        rows_of(template)({"messages": [*CHAT[:3], {**CHAT[3], "is_learned": False}]})


def test_all_turns_are_learned_where_that_is_asked_for() -> None:
    tokenize = rows_of(CHATML, Learn.ALL)
    assert tokenize.learned({}) is Learned.EVERYTHING
    made = tokenize({"messages": CHAT})
    assert made.labels == made.ids == rows_of(CHATML)({"messages": CHAT}).ids
    marked = tokenize({"messages": [CHAT[0], {**CHAT[1], "is_learned": False}, *CHAT[2:]]})
    assert ANSWERED[0] in words(tokenize, marked, are_learned=False)
    assert all(word in words(tokenize, marked, are_learned=True) for word in (*ASKED, ANSWERED[1]))
    with pytest.raises(ValueError, match="leave --learn all out"):
        tokenize({"messages": [{**CHAT[0], "is_learned": False}, *CHAT[1:]]})


@pytest.mark.parametrize("name", ["qwen3", "llama3", "gemma", "gptoss", "phi3", "lfm2_2_5"])
def test_with_marks_the_tokens_are_those_of_trls_assistant_only_loss(name: str) -> None:
    template = next(path for path in SHIPPED if path.stem == name).read_text("utf-8")
    (theirs,) = by_trl([{"messages": MESSAGES}], tokenizer_with(template), assistant_only_loss=True)
    ours = rows_of(template)({"messages": CHAT})
    assert (ours.ids, ours.labels) == (theirs["input_ids"], theirs["labels"])


@pytest.mark.parametrize("style", ["chatml", "llama-2", "zephyr", "headers", "model's turn"])
def test_by_comparing_the_tokens_are_those_of_trls_completion_only_loss(style: str) -> None:
    asked_and_answered: list[dict[str, Any]] = [{"prompt": MESSAGES[:3], "completion": MESSAGES[3:]}]
    (theirs,) = by_trl(asked_and_answered, tokenizer_with(STYLES[style]))
    ours = rows_of(STYLES[style])({"messages": [CHAT[0], {**CHAT[1], "is_learned": False}, *CHAT[2:]]})
    assert (ours.ids, ours.labels) == (theirs["input_ids"], theirs["labels"])


def test_all_turns_are_those_of_plain_trl() -> None:
    (theirs,) = by_trl([{"messages": MESSAGES}], tokenizer_with(CHATML))
    ours = rows_of(CHATML, Learn.ALL)({"messages": CHAT})
    assert (ours.ids, ours.labels) == (theirs["input_ids"], theirs["labels"])


@pytest.mark.parametrize(
    ("template", "eos", "missing"),
    [
        (CHATML, "</s>", "<|im_end|>"),
        (CHATML, "<|im_end|>", None),
        (STYLES["llama-2"], "</s>", None),
        (STYLES["own marks without the end"], "</s>", "<|end|>"),
    ],
)
def test_the_end_of_a_turn_that_does_not_end_generation_is_found(template: str, eos: str, missing: str | None) -> None:
    tokenize = rows_of(template)
    assert tokenize.turn_end is not None
    found = tokenize.turn_end.missing([tokenize.tokenizer.convert_tokens_to_ids(eos)])
    assert (found and tokenize.tokenizer.decode([found])) == missing


def test_a_template_whose_turns_cannot_be_told_apart_ends_them_nevertheless() -> None:
    tokenize = rows_of(COUNTS_TURNS)
    assert tokenize.turn_end is not None
    assert [tokenize.tokenizer.decode([token]) for token in tokenize.turn_end.learned] == ["<|im_end|>"]


def test_nothing_is_said_of_the_end_of_turns_by_a_template_that_only_takes_other_chats() -> None:
    picky = "{% if messages | length < 4 %}{{ raise_exception('too short') }}{% endif %}" + STYLES["own marks"]
    tokenize = rows_of(picky)
    assert tokenize.turn_end is None
    assert ANSWERED[0] in words(tokenize, tokenize({"messages": CHAT}), are_learned=True)


def test_a_template_without_an_end_of_turn_is_seen() -> None:
    end = rows_of("{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}").turn_end
    assert end is not None
    assert (end.last, end.learned) == (None, ())


class _Letters(PreTrainedTokenizer):
    """A token a letter, written in Python: it knows no places in a text."""

    @property
    def vocab_size(self) -> int:
        return 256

    def get_vocab(self) -> dict[str, int]:
        return {chr(i): i for i in range(256)} | self.added_tokens_encoder

    def _tokenize(self, text: str, **_: object) -> list[str]:
        return list(text)

    def _convert_token_to_id(self, token: str) -> int:
        return ord(token)

    def _convert_id_to_token(self, index: int) -> str:
        return chr(index)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens)


@pytest.mark.parametrize("style", ["chatml", "own marks"])
def test_a_tokenizer_that_knows_no_places_teaches_the_answers_too(style: str) -> None:
    tokenizer = _Letters()
    tokenizer.add_tokens(["<|im_end|>", "<|end|>"], special_tokens=True)
    tokenizer.chat_template = STYLES[style]
    assert not tokenizer.is_fast
    check_only_answers(RowTokenizer(tokenizer, Learn.ASSISTANT, has_chats=True))

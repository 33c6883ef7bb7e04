"""A tokenizer's files, generation configs and chat templates, in the libraries that read them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from autofit.domain.request import Learn
from autofit.worker.data.row_tokens import RowTokenizer
from autofit.worker.data.stop_token import missing_stop
from autofit.worker.data.tokenizer import tokenizer_for
from autofit.worker.data.turn_end import TurnEnd
from tests.builders import make_request

from .junk import changed, clean, damaged, json_bytes

WHOLE = json.loads(Tokenizer(WordLevel({"a": 0, "</s>": 1, "[UNK]": 2}, "[UNK]")).to_str())
CONFIG = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "unk_token": "[UNK]", "chat_template": "x"}
GENERATION = {"eos_token_id": [1, 2], "bos_token_id": 0, "max_length": 20}
TEMPLATE = (
    "{%- for message in messages %}{{ message['role'] }}: {{ message['content'] }}{{ eos_token }}{%- endfor %}"
    "{%- if add_generation_prompt %}assistant: {%- endif %}"
)
CHAT = {"messages": [{"role": role, "content": "a", "reasoning": None, "is_learned": None} for role in
                     ("user", "assistant")]}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_text(json.dumps(WHOLE))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(CONFIG))
    shutil.copy(Path(__file__).parents[2] / "tests/configs/llama-2-7b/config.json", tmp_path)
    return tmp_path


def _loaded(model: Path, extra: dict[str, Any] | None = None) -> Any:
    request = make_request(model, 64)
    return tokenizer_for(request, extra or {}, has_chats=False, embedding_count=None)[0]


@given(st.one_of(changed(WHOLE).map(json_bytes), damaged(json_bytes(WHOLE))))
@settings(max_examples=30)
def test_a_damaged_tokenizer(model: Path, content: bytes) -> None:
    (model / "tokenizer.json").write_bytes(content)
    clean(lambda: _loaded(model))


@given(st.one_of(changed(CONFIG).map(json_bytes), damaged(json_bytes(CONFIG))))
@example(content=b"null")
@settings(max_examples=30)
def test_a_damaged_config_of_a_tokenizer(model: Path, content: bytes) -> None:
    (model / "tokenizer_config.json").write_bytes(content)
    clean(lambda: _loaded(model))


@given(st.one_of(changed(GENERATION).map(json_bytes), damaged(json_bytes(GENERATION))))
@settings(max_examples=30)
def test_a_damaged_generation_config(model: Path, content: bytes) -> None:
    tokenizer = _loaded(model)
    (model / "generation_config.json").write_bytes(content)
    clean(lambda: missing_stop(make_request(model, 64), tokenizer, TurnEnd(1, (1,))))


@given(damaged(TEMPLATE.encode()))
@settings(max_examples=40)
def test_a_damaged_chat_template(model: Path, content: bytes) -> None:
    path = model / "t.jinja"
    path.write_bytes(content)
    tokenizer = clean(lambda: _loaded(model, {"chat_template_path": str(path)}))
    if isinstance(tokenizer, str):
        return
    if not tokenizer.chat_template:
        return
    tokenize = clean(lambda: RowTokenizer(tokenizer, Learn.ASSISTANT, has_chats=True))
    assert isinstance(tokenize, RowTokenizer)

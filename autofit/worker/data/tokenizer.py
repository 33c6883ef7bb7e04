"""The model's tokenizer, checked for what the data needs of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from autofit.domain.errors import UsageError, error_text
from autofit.domain.request import Request
from autofit.inputs.snapshot import local_options
from autofit.worker.model.loading import load_tokenizer

from .chat_template import ensure_chat_template
from .tokenizer_files import check_files


def tokenizer_for(
    request: Request, extra: dict[str, Any], *, has_chats: bool, embedding_count: int | None
) -> tuple[PreTrainedTokenizerBase, str | None]:
    """The tokenizer as `extra` (training arguments) alters it, with a chat template where chats need one; a note when
    it was given one. UsageError where it lacks what the data needs."""
    model, tokenizer = request.model, _loaded(request)
    if (eos := extra.get("eos_token")) is not None:
        if eos not in tokenizer.get_vocab():
            raise UsageError(f"training argument --eos_token {eos} is no token of {model}")
        tokenizer.eos_token = eos
    if (path := extra.get("chat_template_path")) is not None:
        tokenizer.chat_template = _template(path)
    if tokenizer.eos_token is None and not has_chats:
        raise UsageError(
            f"the tokenizer of {model} has no end-of-sequence token, which ends a text or an answer; "
            "set eos_token in its tokenizer_config.json, or give it as `-- --eos_token TOKEN`."
        )
    _check_padding(model, tokenizer, extra.get("pad_token"), embedding_count)
    return tokenizer, ensure_chat_template(tokenizer, has_chats)


def _loaded(request: Request) -> PreTrainedTokenizerBase:
    try:
        return load_tokenizer(request.model, trust_remote_code=request.trust_remote_code)
    except Exception as error:  # files of every age and make: transformers raises what it likes
        check_files(request.model)
        if not request.trust_remote_code and _has_code(request.model):
            raise UsageError(
                f"the tokenizer of {request.model} brings code of its own, and none of it has run: read it, and allow "
                "it with --trust-remote-code."
            ) from error
        said = error_text(error, 300)
        raise UsageError(f"the tokenizer of {request.model} cannot be loaded: {said}") from error


def _has_code(model: str) -> bool:
    """Whether a tokenizer, one that cannot be loaded without it, has a class beside its files."""
    try:
        config = get_tokenizer_config(model, **local_options(model))
    except (OSError, ValueError):
        return False  # which is why it cannot be loaded
    classes = config.get("auto_map")
    if isinstance(classes, list):  # as in older files: a slow class and a fast one
        return bool(classes)
    return isinstance(classes, dict) and "AutoTokenizer" in classes


def _check_padding(model: str, tokenizer: PreTrainedTokenizerBase, asked: str | None, count: int | None) -> None:
    """Checks the token that trl pads with, the first of these; one that the embedding does not hold would end the
    training."""
    pad = asked or tokenizer.pad_token or tokenizer.eos_token
    if pad is None:
        raise UsageError(f"the tokenizer of {model} has no token to pad with; give one as `-- --pad_token TOKEN`.")
    if count is not None and tokenizer.get_vocab().get(pad, 0) >= count:  # trl itself refuses one that is unknown
        raise UsageError(
            f"the padding token {pad} of {model} is beyond its embedding, which holds {count:,}; "
            "give another one as `-- --pad_token TOKEN`, or resize the embedding."
        )


def _template(path: str) -> str:
    if not path.endswith((".jinja", ".j2")) or not Path(path).is_file():
        raise UsageError(f"training argument --chat_template_path {path} is no .jinja file; name one")
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"training argument --chat_template_path {path} cannot be read ({error}); name another"
        ) from error
